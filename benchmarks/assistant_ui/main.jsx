// The parts that assistant-ui's own guide puts together for a chat whose messages the application holds: a thread with
// its viewport, messages, Markdown and composer, without any style of its own.
import {
  AssistantRuntimeProvider,
  ComposerPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
  useExternalStoreRuntime,
} from "@assistant-ui/react";
import { MarkdownTextPrimitive } from "@assistant-ui/react-markdown";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import remarkGfm from "remark-gfm";

const Text = () => <MarkdownTextPrimitive remarkPlugins={[remarkGfm]} />;
const parts = { Text };

const Message = () => (
  <MessagePrimitive.Root data-message>
    <MessagePrimitive.Parts components={parts} />
  </MessagePrimitive.Root>
);
const components = { Message };

const convert = (message) => ({
  id: message.id,
  role: message.role,
  content: [{ type: "text", text: message.text }],
});

function Chat() {
  const [messages, setMessages] = useState([]);
  const [isRunning, setRunning] = useState(false);
  useEffect(() => {
    fetch("history.json").then(async (answer) => setMessages(await answer.json()));
  }, []);
  const onNew = async () => {
    setRunning(true);
    setMessages((now) => [...now, { id: "answer", role: "assistant", text: "" }]);
    const source = new EventSource("deltas");
    source.onmessage = ({ data }) => {
      const text = JSON.parse(data);
      if (text === null) {
        source.close();
        return setRunning(false);
      }
      setMessages((now) => {
        const last = now.at(-1);
        return [...now.slice(0, -1), { ...last, text: last.text + text }];
      });
    };
  };
  const runtime = useExternalStoreRuntime({ messages, isRunning, convertMessage: convert, onNew });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ThreadPrimitive.Root className="root" data-running={isRunning}>
        <ThreadPrimitive.Viewport className="viewport">
          <ThreadPrimitive.Messages components={components} />
        </ThreadPrimitive.Viewport>
        <ComposerPrimitive.Root>
          <ComposerPrimitive.Input data-testid="composer" />
          <ComposerPrimitive.Send>Send</ComposerPrimitive.Send>
        </ComposerPrimitive.Root>
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}

createRoot(document.getElementById("app")).render(<Chat />);
