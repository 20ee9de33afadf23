// The newest of everything, pushed by the panel. Reconnects for ever, and says how long it has been without news.

export const KINDS = ["status", "control", "instances", "deploys", "writes"];
const SILENCE_MS = 6000; // the panel pushes status at least every 2 s
const RETRY_MS = 1000;

export class Live {
  constructor(onChange) {
    this.onChange = onChange;
    this.state = {};
    this.connected = false;
    this.heardAt = performance.now();
    this.statusAt = performance.now();
    this.connect();
    setInterval(() => this.watch(), 1000);
  }

  connect() {
    this.source?.close();
    this.triedAt = performance.now();
    this.source = new EventSource("/api/events");
    for (const kind of KINDS) {
      this.source.addEventListener(kind, (event) => this.take(kind, JSON.parse(event.data)));
    }
    this.source.onerror = () => {
      this.connected = false;
      this.onChange("connection");
    };
  }

  take(kind, value) {
    this.heardAt = performance.now();
    this.connected = true;
    if (kind === "status") {
      this.statusAt = this.heardAt;
      this.serverOffset = value.time_ms - this.heardAt;
    }
    this.state[kind] = value;
    this.onChange(kind);
  }

  // An answer that ended in an error is not retried by the browser, and a stalled one is not noticed by it.
  watch() {
    const now = performance.now();
    const silent = now - this.heardAt > SILENCE_MS;
    const closed = this.source.readyState === EventSource.CLOSED;
    if (silent) this.connected = false;
    if ((closed && now - this.triedAt > RETRY_MS) || (silent && now - this.triedAt > SILENCE_MS)) this.connect();
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
