// Talks to the server. The token, where one is needed, stays in this tab.
const KEY = "anydose-token";
let asked = null;

export class Refusal extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export const setToken = (token) => sessionStorage.setItem(KEY, token);
export const onTokenNeeded = (callback) => { asked = callback; };

export async function call(method, path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token) headers.authorization = `Bearer ${token}`;
  let sent = body;
  if (body !== undefined && !(body instanceof Blob)) {
    headers["content-type"] = "application/json";
    sent = JSON.stringify(body);
  }
  const answer = await fetch(path, { method, headers, body: sent, signal });
  if (answer.ok) return answer;
  if (answer.status === 401 && asked) asked();
  throw new Refusal(answer.status, await sentence(answer));
}

export const get = async (path) => (await call("GET", path)).json();
export const post = async (path, body) => (await call("POST", path, body)).json();
export const remove = (path) => call("DELETE", path);

async function sentence(answer) {
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string") return detail;
    return detail.map((row) => `${row.loc.slice(1).join(" ")}: ${row.msg}`).join("; ");
  } catch {
    return `the server answered ${answer.status}`;
  }
}

// A file of a result goes to the browser's downloads.
export async function download(path, name) {
  const url = URL.createObjectURL(await (await call("GET", path)).blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
