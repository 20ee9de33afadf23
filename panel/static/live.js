// The newest of everything, pushed by the panel. Reconnects for ever, and says how long it has been without news.
// Of several tabs of one browser one holds the connection and tells the others: a browser opens only six to one host.

// In the order in which they come: with a status a page has all that its buttons and its verdict need.
export const KINDS = ["control", "instances", "status", "deploys", "writes", "ledger", "notifications"];
const SILENCE_MS = 6000; // the panel pushes status at least every 2 s
const RETRY_MS = 1000;
const CHECK_MS = 5000;
const SHARED = "never-sleeps-live";

export class Live {
  // access: whose this tab's token is and what it allows, once the panel has accepted it: {name, scope}.
  // onAccepted: the panel accepts the token. onRefused: it is missing or wrong; call start() again when there is another.
  constructor(token, onChange, onAccepted, onRefused) {
    Object.assign(this, { token, onChange, onAccepted, onRefused, state: {}, connected: false, leading: false, access: null });
    this.heardAt = this.statusAt = performance.now();
    if (window.BroadcastChannel) {
      this.channel = new BroadcastChannel(SHARED);
      this.channel.onmessage = ({ data }) => this.told(data);
    }
    setInterval(() => this.watch(), 1000);
  }

  async start() {
    this.started = true;
    this.accepted = false;
    this.heardAt = performance.now();
    if (!(await this.isAccepted())) return;
    if (!navigator.locks || !this.channel) return this.lead();
    this.channel.postMessage({ ask: true });
    if (!this.queued) {
      this.queued = true;
      navigator.locks.request(SHARED, () => this.lead()).finally(() => (this.queued = false));
    }
  }

  // Whether the panel accepts this tab's own token. Until it has said so nothing is taken from other tabs, whatever they know.
  async isAccepted() {
    const given = this.token();
    while (this.started && given === this.token()) {
      try {
        const headers = { authorization: `Bearer ${given ?? ""}` };
        const answer = await fetch("/api/access", { headers, cache: "no-store", signal: AbortSignal.timeout(CHECK_MS) });
        if (answer.status === 401) return this.refuse();
        const access = answer.ok ? await answer.json() : null;
        if (access && given === this.token()) {
          this.access = access;
          this.accepted = true;
          this.onAccepted();
          return true;
        }
      } catch {
        // not reached: tried again
      }
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
    return false;
  }

  refuse() {
    this.started = this.accepted = false;
    this.access = null;
    this.onRefused();
    return false;
  }

  told({ ask, kind, value, held }) {
    if (ask && this.leading) KINDS.forEach((one) => this.tell(one));
    else if (kind && this.started && this.accepted && !this.leading) this.take(kind, value, held);
  }

  tell(kind) {
    if (!this.state[kind]) return;
    const held = kind === "status" ? performance.now() - this.statusAt : 0;
    this.channel?.postMessage({ kind, value: this.state[kind], held });
  }

  // Ends when the token is refused.
  async lead() {
    if (this.leading) return;
    this.leading = true;
    while (this.started) {
      try {
        if (!(await this.stream())) break;
      } catch {
        // lost: said below, tried again
      }
      this.connected = false;
      this.onChange("connection");
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
    this.leading = false;
  }

  async stream() {
    this.abort = new AbortController();
    this.triedAt = performance.now();
    const headers = { authorization: `Bearer ${this.token() ?? ""}` };
    const response = await fetch("/api/events", { headers, signal: this.abort.signal, cache: "no-store" });
    if (response.status === 401) return this.refuse();
    if (!response.ok) throw new Error(response.statusText);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return true;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.read(block);
    }
  }

  read(block) {
    const kind = /^event: (\w+)/m.exec(block)?.[1];
    const data = /^data: (.*)$/m.exec(block)?.[1];
    if (!kind || !data) return;
    this.take(kind, JSON.parse(data));
    this.tell(kind);
  }

  take(kind, value, held = 0) {
    this.heardAt = performance.now();
    this.connected = true;
    if (kind === "status") {
      this.statusAt = this.heardAt - held;
      this.serverOffset = value.time_ms - this.statusAt;
    }
    this.state[kind] = value;
    this.onChange(kind);
  }

  // A connection that stalls is not noticed by the browser; a tab that was to tell us may be asleep.
  watch() {
    if (!this.started || !this.accepted || performance.now() - this.heardAt < SILENCE_MS) return;
    this.connected = false;
    if (!this.leading) this.lead();
    else if (performance.now() - this.triedAt > SILENCE_MS) this.abort?.abort();
  }

  // The panel's UTC time in ms, run on by this page's monotonic clock: a wrong clock on a phone changes nothing.
  now() {
    return this.serverOffset === undefined ? Date.now() : this.serverOffset + performance.now();
  }

  // How old the shown status is in ms, or null when there is none.
  statusAge() {
    const age = this.state.status?.age_ms;
    return age == null ? null : age + performance.now() - this.statusAt;
  }

  silence() {
    return performance.now() - this.heardAt;
  }
}
