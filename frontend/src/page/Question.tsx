/**
 * A question of the agent: a form, or an address that the person may open. Everything that the agent says of it is
 * text; the address is opened by the person alone, and its host is shown beside it.
 */

import "./permission.css";
import "./question.css";
import { useState } from "preact/hooks";
import type { QuestionField, QuestionItem } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { toComposer, useAsking } from "./asking.ts";
import { Icon } from "./icons.tsx";
import { useConversation, useStore } from "./page.ts";
import { PlainText } from "./Pieces.tsx";
import { t } from "./preferences.ts";

type Value = string | number | boolean | string[];
type Answers = Record<string, Value>;
type Action = "accept" | "decline" | "cancel";

/** Up to so many choices are shown as buttons, more as a list that opens. */
const RADIOS = 8;
/** A text that may be longer gets more than one line. */
const LINE = 200;

export function QuestionView({ item }: { item: QuestionItem }) {
  const store = useStore();
  const conversation = useConversation();
  const [isSent, setSent] = useState(false);
  const isOpen = item.outcome === null;
  const { mayAnswer } = conversation;
  const name = conversation.chat.agent;
  const agent = store.agents.find((one) => one.name === name)?.title ?? name ?? t("agent");
  const heading = t("questionFrom", { agent: clipped(agent, 80) });
  const words = `${heading}: ${clipped(item.message)}`;
  const box = useAsking(isOpen, mayAnswer && Boolean(item.fields), words);
  if (!item.fields) return null;
  if (!isOpen || !mayAnswer) return <QuestionDone item={item} />;

  const answer = async (action: Action, content?: Answers): Promise<void> => {
    setSent(true);
    const isTaken = await conversation.answerQuestion(item.id, action, content);
    if (isTaken) toComposer();
    else setSent(false);
  };
  return (
    <section
      ref={box}
      class="permission question"
      data-testid="question"
      role="group"
      tabIndex={-1}
      aria-label={words}
    >
      <header>
        <Icon name="person" />
        <h2 dir="auto">{heading}</h2>
      </header>
      <p class="permission-title question-message" dir="auto">
        <PlainText text={item.message} />
      </p>
      {conversation.chat.turn_id !== item.turn_id && <p class="quiet">{t("questionLate")}</p>}
      {item.mode === "url" ? (
        <QuestionAddress item={item} isSent={isSent} answer={answer} />
      ) : (
        <Form item={item} isSent={isSent} answer={answer} />
      )}
    </section>
  );
}

interface AnswerProps {
  item: QuestionItem;
  isSent: boolean;
  answer(action: Action, content?: Answers): Promise<void>;
}

function Refusals({ isSent, answer }: Omit<AnswerProps, "item">) {
  return (
    <>
      <button
        type="button"
        class="button"
        data-testid="question-decline"
        disabled={isSent}
        onClick={() => void answer("decline")}
      >
        {t("questionDecline")}
      </button>
      <button
        type="button"
        class="button"
        data-testid="question-cancel"
        disabled={isSent}
        onClick={() => void answer("cancel")}
      >
        {t("cancel")}
      </button>
    </>
  );
}

function QuestionAddress({ item, isSent, answer }: AnswerProps) {
  const url = item.url ?? "";
  if (!/^https?:\/\//.test(url)) return <Refusals isSent={isSent} answer={answer} />;
  return (
    <>
      <p class="question-host">
        <strong dir="ltr">{item.host}</strong>
        <code dir="ltr">{clipped(url, LINE)}</code>
      </p>
      <div class="permission-options">
        <a
          class="button primary"
          data-testid="question-open"
          href={url}
          target="_blank"
          rel="noopener noreferrer"
          onClick={() => void answer("accept")}
        >
          <Icon name="link" />
          {t("questionOpen", { host: item.host ?? "" })}
        </a>
        <Refusals isSent={isSent} answer={answer} />
      </div>
    </>
  );
}

function Form({ item, isSent, answer }: AnswerProps) {
  const [content, setContent] = useState<Answers>(() => firstOf(item.fields));
  const send = (event: Event): void => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const few = item.fields.find((field) => missesChoices(field, content[field.name]));
    if (few) form.querySelector<HTMLElement>(`[data-field="${CSS.escape(few.name)}"] input`)?.focus();
    else void answer("accept", filled(item.fields, content));
  };
  return (
    <form class="question-form" onSubmit={send}>
      {item.fields.map((field, place) => (
        <Field
          key={field.name}
          id={`${item.id}-${place}`}
          field={field}
          value={content[field.name]}
          set={(value) => setContent((before) => changed(before, field.name, value))}
        />
      ))}
      <div class="permission-options">
        <button type="submit" class="button primary" data-testid="question-answer" disabled={isSent}>
          {t("questionAnswer")}
        </button>
        <Refusals isSent={isSent} answer={answer} />
      </div>
    </form>
  );
}

interface FieldProps {
  id: string;
  field: QuestionField;
  value: Value | undefined;
  set(value: Value | undefined): void;
}

function Field(props: FieldProps) {
  const { id, field } = props;
  const isGroup = field.kind === "choices" || (field.kind === "choice" && field.choices.length <= RADIOS);
  const about = <About id={`${id}-about`} field={field} />;
  if (isGroup) {
    return (
      <fieldset class="question-field" data-field={field.name} aria-describedby={`${id}-about`}>
        <legend dir="auto">
          <Title field={field} />
        </legend>
        {about}
        <Choices {...props} />
      </fieldset>
    );
  }
  return (
    <div class={`question-field ${field.kind === "boolean" ? "is-switch" : ""}`} data-field={field.name}>
      <label for={id} dir="auto">
        <Title field={field} />
      </label>
      <Input {...props} />
      {about}
    </div>
  );
}

function Title({ field }: { field: QuestionField }) {
  return (
    <>
      {field.title}
      {!field.is_required && field.kind !== "boolean" && <span class="quiet"> {t("questionOptional")}</span>}
    </>
  );
}

function About({ id, field }: { id: string; field: QuestionField }) {
  const words = [field.description, boundsOf(field), field.pattern && t("questionPattern", { pattern: field.pattern })];
  return (
    <p id={id} class="quiet question-about" dir="auto">
      {words.filter((one) => one).join(" ")}
    </p>
  );
}

function boundsOf({ kind, minimum: low, maximum: high }: QuestionField): string {
  if (kind === "text" || kind === "choice" || kind === "boolean") return "";
  if (low !== null && high !== null) return t("questionBetween", { low, high });
  if (low !== null) return t("questionAtLeast", { low });
  return high === null ? "" : t("questionAtMost", { high });
}

function Choices({ id, field, value, set }: FieldProps) {
  const isMany = field.kind === "choices";
  const chosen = Array.isArray(value) ? value : [];
  const toggle = (one: string, isOn: boolean): void => {
    const next = field.choices.map((choice) => choice.value).filter((v) => (v === one ? isOn : chosen.includes(v)));
    set(next.length > 0 ? next : undefined);
  };
  return (
    <div class="question-choices">
      {field.choices.map((choice) => (
        <label key={choice.value} class="question-choice">
          <input
            type={isMany ? "checkbox" : "radio"}
            name={id}
            required={!isMany && field.is_required}
            checked={isMany ? chosen.includes(choice.value) : value === choice.value}
            onChange={(event) => (isMany ? toggle(choice.value, event.currentTarget.checked) : set(choice.value))}
          />
          <span dir="auto">
            {choice.title}
            {choice.description && <span class="quiet question-about">{choice.description}</span>}
          </span>
        </label>
      ))}
    </div>
  );
}

function Input({ id, field, value, set }: FieldProps) {
  const text = typeof value === "string" || typeof value === "number" ? String(value) : "";
  const common = { id, required: field.is_required, "aria-describedby": `${id}-about`, value: text };
  const onText = (event: { currentTarget: { value: string } }): void => set(event.currentTarget.value || undefined);
  if (field.kind === "boolean") {
    const onChange = (event: { currentTarget: HTMLInputElement }): void => set(event.currentTarget.checked);
    return (
      <input type="checkbox" id={id} aria-describedby={`${id}-about`} checked={value === true} onChange={onChange} />
    );
  }
  if (field.kind === "choice") {
    return (
      <select class="field wide" {...common} onChange={onText}>
        <option value="">{t("questionNone")}</option>
        {field.choices.map((choice) => (
          <option key={choice.value} value={choice.value}>
            {choice.title}
          </option>
        ))}
      </select>
    );
  }
  if (field.kind === "number" || field.kind === "integer") {
    const { minimum, maximum } = field;
    const bounds = { ...(minimum !== null && { min: minimum }), ...(maximum !== null && { max: maximum }) };
    const step = field.kind === "integer" ? 1 : "any";
    const onInput = (event: { currentTarget: HTMLInputElement }): void => {
      const number = event.currentTarget.valueAsNumber;
      set(Number.isNaN(number) ? undefined : number);
    };
    return <input type="number" class="field wide" dir="ltr" step={step} {...bounds} {...common} onInput={onInput} />;
  }
  const lengths = {
    ...(field.minimum !== null && { minLength: field.minimum }),
    ...(field.maximum !== null && { maxLength: field.maximum }),
  };
  if (!field.format && (field.maximum ?? 0) > LINE)
    return <textarea class="field wide" dir="auto" rows={3} {...lengths} {...common} onInput={onText} />;
  const type = { email: "email", uri: "url", date: "date" }[field.format] ?? "text";
  const example = field.format === "date-time" ? { placeholder: "2026-01-31T12:00:00Z" } : {};
  return <input type={type} class="field wide" dir="auto" {...lengths} {...example} {...common} onInput={onText} />;
}

/** What a form begins with. */
export function firstOf(fields: readonly QuestionField[]): Answers {
  const known = fields.filter((field) => field.default !== null);
  return Object.fromEntries(known.map((field) => [field.name, field.default as Value]));
}

function changed(content: Answers, name: string, value: Value | undefined): Answers {
  const { [name]: _before, ...rest } = content;
  return value === undefined ? rest : { ...rest, [name]: value };
}

/** The answer: a switch that nobody touched is off. */
export function filled(fields: readonly QuestionField[], content: Answers): Answers {
  const off = fields.filter((field) => field.kind === "boolean" && !(field.name in content));
  return { ...Object.fromEntries(off.map((field) => [field.name, false])), ...content };
}

function missesChoices(field: QuestionField, value: Value | undefined): boolean {
  const count = Array.isArray(value) ? value.length : 0;
  return field.kind === "choices" && field.is_required && count < Math.max(1, field.minimum ?? 0);
}

function QuestionDone({ item }: { item: QuestionItem }) {
  const isAnswered = item.outcome === "accept" || item.outcome === "complete";
  const titles = new Map(item.fields.map((field) => [field.name, field.title]));
  const answers = Object.entries(item.content ?? {});
  return (
    <details class={`permission-done question-done ${isAnswered ? "is-allowed" : ""}`} data-testid="question-answered">
      <summary>
        <Icon name={item.outcome === null ? "clock" : isAnswered ? "check" : "close"} />
        <span dir="auto">{clipped(item.message, LINE)}</span>
        <span class="quiet">{t(OUTCOMES[item.outcome ?? "open"])}</span>
      </summary>
      <dl>
        {answers.map(([name, value]) => (
          <div key={name}>
            <dt dir="auto">{clipped(titles.get(name) ?? name, LINE)}</dt>
            <dd dir="auto">{clipped(said(value), LINE)}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}

const OUTCOMES = {
  open: "permissionOpen",
  accept: "questionAnswered",
  complete: "questionCompleted",
  decline: "questionDeclined",
  cancel: "questionCancelled",
} as const;

function said(value: Value): string {
  if (typeof value === "boolean") return t(value ? "yes" : "no");
  return Array.isArray(value) ? value.join(", ") : String(value);
}
