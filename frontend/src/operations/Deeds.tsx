import { useState } from "preact/hooks";
import { Dialog } from "../page/index.ts";
import { w } from "./words.ts";

/** Something that an operator asked for, until it is confirmed: whom it hits, and what it then says. */
export interface Deed {
  title: string;
  text: string;
  verb: string;
  isHarmless?: boolean;
  act(): Promise<string>;
}

export type AskFor = (deed: Deed) => void;

export function Confirm({ deed, close, act }: { deed: Deed; close(): void; act(): void }) {
  return (
    <Dialog title={deed.title} close={close}>
      <p data-testid="ops-question">{deed.text}</p>
      <div class="dialog-verbs">
        <button type="button" class="button" autofocus onClick={close}>
          {w("cancel")}
        </button>
        <button
          type="button"
          class={`button ${deed.isHarmless ? "primary" : "danger"}`}
          data-testid="ops-confirm"
          onClick={act}
        >
          {deed.verb}
        </button>
      </div>
    </Dialog>
  );
}

/** A field with its label, and a hint that is read with it. */
export function LabelledField(props: {
  id: string;
  label: string;
  hint?: string;
  value: string;
  change(value: string): void;
  isRequired?: boolean;
  type?: "text" | "number";
}) {
  const { id, label, hint, value, change, isRequired = false, type = "text" } = props;
  return (
    <div class="ops-field">
      <label for={id}>{label}</label>
      <input
        id={id}
        class="field wide"
        dir="auto"
        type={type}
        {...(type === "number" && { min: "0.01", max: "3650", step: "any" })}
        autocomplete="off"
        required={isRequired}
        {...(hint && { "aria-describedby": `${id}-hint` })}
        value={value}
        onInput={(event) => change(event.currentTarget.value)}
      />
      {hint && (
        <span id={`${id}-hint`} class="quiet">
          {hint}
        </span>
      )}
    </div>
  );
}

/** The dialog of a form: what the gateway refuses is said in it, and nothing that was typed is lost. */
export function FormDialog(props: {
  title: string;
  verb: string;
  close(): void;
  submit(): Promise<void>;
  children: preact.ComponentChildren;
}) {
  const [refusal, refuse] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (): Promise<void> => {
    setBusy(true);
    try {
      await props.submit();
    } catch (error) {
      refuse(error instanceof Error ? error.message : String(error));
    }
    setBusy(false);
  };
  return (
    <Dialog title={props.title} close={props.close}>
      <form
        class="ops-form"
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        {props.children}
        {refusal && (
          <p class="ops-refusal" role="alert" data-testid="form-refusal">
            {refusal}
          </p>
        )}
        <div class="dialog-verbs">
          <button type="button" class="button" onClick={props.close}>
            {w("cancel")}
          </button>
          <button type="submit" class="button primary" disabled={isBusy} data-testid="form-submit">
            {props.verb}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
