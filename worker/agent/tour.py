"""The tour: what a session can show, played in about fifteen seconds by an agent without a model.

Guarantees: it is real work (the tool runs, the permission is asked, nothing is written without it), and it
says that no model is behind it; it can be cancelled between any two words.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from worker.agent.turn import BuiltInTurn

FILE: Final = "tour.md"
WORD_SECONDS: Final = 0.03
STEP_SECONDS: Final = 0.8
"""Long enough to see what has changed, short enough for nobody to wait."""

_WORDS: Final = re.compile(r"\s*\S+\s*")


class TourWords(msgspec.Struct, frozen=True):
    """The texts of the tour in one language."""

    asked: tuple[str, ...]
    """What a person says to see it, in lower case, without the marks at the end."""
    steps: tuple[str, str, str, str]
    thought: str
    hello: str
    before: str
    file: str
    written: str
    refused: str
    end: str


_ENGLISH: Final = TourWords(
    asked=("show me what you can do", "show me around", "give me a tour"),
    steps=("Think it over", "Look at the files", "Write a page, if you allow it", "Sum up"),
    thought=(
        "Somebody wants to see what can be done here. I shall show each thing once: a plan, a tool, a "
        "question, a change of a file. My thoughts are folded away; you have opened them."
    ),
    hello=(
        "Here is a short tour. **Above** is my plan; it is checked off as I go on. First I look into the "
        "working directory of this conversation, which no other conversation can see.\n\n"
    ),
    before=(
        f"\n\nNow I would like to write a file, `{FILE}`. That is not done without you: read what I would "
        "change, and allow or refuse it.\n\n"
    ),
    file=(
        "# What you have seen\n\n"
        "- a plan that is checked off\n"
        "- a tool that ran, with its output\n"
        "- a permission, asked before anything changed\n"
        "- this file, which you can open, download and undo\n"
    ),
    written=(
        f"\n\nThank you: `{FILE}` is written. Open it in the panel of **files** above, or undo the change "
        "below.\n\n"
    ),
    refused="\n\nYou have refused it, and nothing was written. That is how it works with every agent.\n\n",
    end=(
        "| to try | how |\n|---|---|\n"
        "| stop me | Esc, while I work |\n"
        "| send the next message now | just write: it waits for its turn |\n"
        "| go another way | the buttons below each message |\n"
        "| see my commands | `/help` |\n\n"
        "I am the built-in agent with its **offline model**: this tour was a script. With a language model, "
        "or with another agent, the same things happen for real work."
    ),
)

_HEBREW: Final = TourWords(
    asked=("מה אפשר לעשות כאן", "הראו לי מה אפשר לעשות"),
    steps=("לחשוב על זה", "להסתכל בקבצים", "לכתוב דף, אם תרשו", "לסכם"),
    thought=(
        "מישהו רוצה לראות מה אפשר לעשות כאן. אראה כל דבר פעם אחת: תוכנית, כלי, שאלה ושינוי של קובץ. "
        "המחשבות שלי מקופלות; פתחתם אותן."
    ),
    hello=(
        "הנה סיור קצר. **למעלה** התוכנית שלי, וכל שלב מסומן כשהוא נגמר. תחילה אסתכל בתיקיית העבודה של השיחה "
        "הזאת, ששום שיחה אחרת אינה רואה.\n\n"
    ),
    before=(
        f"\n\nעכשיו אני רוצה לכתוב קובץ, `{FILE}`. בלעדיכם זה לא נעשה: קראו מה ישתנה, ואשרו או סרבו.\n\n"
    ),
    file=(
        "# מה ראיתם\n\n"
        "- תוכנית ששלביה מסומנים\n"
        "- כלי שרץ, עם הפלט שלו\n"
        "- בקשת רשות לפני כל שינוי\n"
        "- הקובץ הזה, שאפשר לפתוח, להוריד ולבטל\n"
    ),
    written=f"\n\nתודה: `{FILE}` נכתב. אפשר לפתוח אותו בלוח **הקבצים** למעלה, או לבטל את השינוי למטה.\n\n",
    refused="\n\nסירבתם, ודבר לא נכתב. כך זה עובד עם כל סוכן.\n\n",
    end=(
        "| לנסות | איך |\n|---|---|\n"
        "| לעצור אותי | Esc בזמן שאני עובד |\n"
        "| לשלוח כבר את ההודעה הבאה | פשוט לכתוב: היא מחכה לתורה |\n"
        "| ללכת בדרך אחרת | הכפתורים מתחת לכל הודעה |\n"
        "| לראות את הפקודות שלי | `/help` |\n\n"
        "אני הסוכן המובנה עם **המודל הלא־מקוון**: הסיור הזה היה תסריט. עם מודל שפה, או עם סוכן אחר, "
        "אותם דברים קורים בעבודה אמיתית."
    ),
)


def asked_in(text: str) -> TourWords | None:
    """The words of the tour that a message asks for; None if it asks for none."""
    said = " ".join(text.lower().split()).strip(" .!?")
    return next((words for words in (_ENGLISH, _HEBREW) if said in words.asked), None)


async def play(turn: BuiltInTurn, words: TourWords = _ENGLISH) -> None:
    """The whole tour. Raises Cancelled."""
    await _show_plan(turn, words, 0)
    for word in _WORDS.findall(words.thought):
        turn.updates.think(word)
        await turn.io.sleep(WORD_SECONDS)
    await _show_plan(turn, words, 1)
    await _say(turn, words.hello)
    await turn.run_tool("list_files", {"path": "."})
    await _show_plan(turn, words, 2)
    await _say(turn, words.before)
    output = await turn.run_tool("write_file", {"path": FILE, "content": words.file})
    await _show_plan(turn, words, 3)
    await _say(turn, words.written if output.startswith("Wrote") else words.refused)
    await _say(turn, words.end)
    await _show_plan(turn, words, len(words.steps))


async def _show_plan(turn: BuiltInTurn, words: TourWords, done: int) -> None:
    later = ["completed"] * done + ["in_progress"] + ["pending"] * len(words.steps)
    turn.updates.plan(list(zip(words.steps, later, strict=False)))
    await turn.io.sleep(STEP_SECONDS)


async def _say(turn: BuiltInTurn, text: str) -> None:
    for word in _WORDS.findall(text):
        turn.updates.say(word)
        await turn.io.sleep(WORD_SECONDS)
