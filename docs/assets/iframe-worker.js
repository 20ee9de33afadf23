// Browsers start no worker from a file. Where these pages are read as files, a hidden frame does the search's work instead.
"use strict";

class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.onmessage = null;
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    const inside = this.frame.contentWindow;
    const message = (data) => {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    };
    // What a worker has and a window has not, or has otherwise.
    inside.postMessage = message;
    inside.importScripts = () => { throw new Error("expected a search worker that imports no script; see docs/assets/iframe-worker.js"); };
    this.ready = new Promise((resolve, reject) => {
      const script = inside.document.createElement("script");
      script.src = new URL(url, location.href);
      script.onload = resolve;
      script.onerror = () => reject(new Error(`expected the search's worker at ${url}, found none`));
      inside.document.body.append(script);
    });
  }

  postMessage(data) {
    this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") {
  window.Worker = FrameWorker;
}
