"""Copies trees: a program that runs behind a session's walls, with the session's rights.

Arguments: pairs of a folder or file and where its copy goes (`~` is HOME), then `--`, then the most bytes.
It clones files where the file system can (FICLONE), copies them where it cannot, and never makes a hard link:
the copy must not share anything that can be changed. Links stay links; devices, FIFOs and sockets are left
out. It prints one line of JSON: files, bytes, how many files were cloned.

Imports nothing of the gateway: its text is what the other interpreter runs.
"""

import contextlib
import fcntl
import json
import os
import stat
import sys

FICLONE = 0x40049409
"""ioctl_ficlone(2), on every architecture of Linux that has file systems that can."""
FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


class Copying:
    """Counts what it copies."""

    def __init__(self, most_bytes: int) -> None:
        self.files = self.bytes = self.cloned = 0
        self.can_clone = True
        self.most_bytes = most_bytes

    def tree(self, source: int, target: int) -> None:
        """Copies what is in an open folder to another."""
        with os.scandir(source) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(entry.name, 0o755, dir_fd=target)
                flags = os.O_RDONLY | os.O_DIRECTORY | FLAGS
                pair = [os.open(entry.name, flags, dir_fd=folder) for folder in (source, target)]
                self.tree(*pair)
                for descriptor in pair:
                    os.close(descriptor)
            else:
                self.entry(entry.name, source, target)

    def entry(self, name: str, source: int, target: int) -> None:
        """Copies what is no folder."""
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISREG(found.st_mode):
            self.file(name, found, source, target)

    def file(self, name: str, found: os.stat_result, source: int, target: int) -> None:
        self.files += 1
        self.bytes += found.st_size
        if self.bytes > self.most_bytes:
            sys.exit("larger than it may be")
        old = os.open(name, os.O_RDONLY | FLAGS, dir_fd=source)
        mode = stat.S_IMODE(found.st_mode) & 0o777
        new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, mode, dir_fd=target)
        if not self.clone(old, new):
            rest = found.st_size
            while rest > 0 and (count := os.sendfile(new, old, None, rest)):
                rest -= count
        os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.close(old)
        os.close(new)

    def clone(self, old: int, new: int) -> bool:
        if not self.can_clone:
            return False
        try:
            fcntl.ioctl(new, FICLONE, old)
        except OSError:
            self.can_clone = self.cloned > 0
            return False
        self.cloned += 1
        return True


def main() -> None:
    words = sys.argv[1:]
    end = words.index("--")
    copying = Copying(int(words[end + 1]))
    os.umask(0)
    for source, target in zip(words[:end:2], words[1:end:2], strict=True):
        target = os.path.expanduser(target)
        if not os.path.lexists(source):
            continue
        name = "" if os.path.isdir(source) and not os.path.islink(source) else os.path.basename(source)
        if name:
            source, target = os.path.dirname(source), os.path.dirname(target) or "."
        os.makedirs(target, 0o755, exist_ok=True)
        pair = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
        try:
            if name:
                copying.entry(name, *pair)
            else:
                copying.tree(*pair)
        except OSError as error:
            sys.exit(error.strerror)  # people read it: a full disk, say
    json.dump({"files": copying.files, "bytes": copying.bytes, "cloned": copying.cloned}, sys.stdout)


if __name__ == "__main__":
    main()
