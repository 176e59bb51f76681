/** A short sound for news, if the person wants it. */

import { storage } from "./words.ts";

const KEY = "agw.inbox.sound";
const SECONDS = 0.18;

export class NewsBell {
  isOn = storage.getItem(KEY) === "on";
  #audio: AudioContext | null = null;

  /** Called by a click: browsers allow sound only after one. */
  toggle(): void {
    this.isOn = !this.isOn;
    storage.setItem(KEY, this.isOn ? "on" : "off");
    if (this.isOn) this.ring();
  }

  ring(): void {
    if (!this.isOn || typeof AudioContext === "undefined") return;
    const audio = (this.#audio ??= new AudioContext());
    void audio.resume().catch(() => undefined);
    const tone = audio.createOscillator();
    const volume = audio.createGain();
    tone.frequency.value = 880;
    volume.gain.setValueAtTime(0.08, audio.currentTime);
    volume.gain.exponentialRampToValueAtTime(0.0001, audio.currentTime + SECONDS);
    tone.connect(volume).connect(audio.destination);
    tone.start();
    tone.stop(audio.currentTime + SECONDS);
  }
}
