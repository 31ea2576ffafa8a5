// Signs in by a cookie that no script can read. The token that changes need lives in this page only.
"use strict";

const API = new URL("v1/", document.baseURI);
const form = document.getElementById("sign-in");
const inside = document.getElementById("signed-in");
const problem = document.getElementById("problem");
let csrf = "";

async function ask(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (csrf && method !== "GET") headers["X-CSRF-Token"] = csrf;
  const answer = await fetch(new URL(path, API), {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin",
  });
  return { status: answer.status, body: await answer.json() };
}

function show(user) {
  form.hidden = Boolean(user);
  inside.hidden = !user;
  if (!user) return;
  document.getElementById("who").textContent = user.name || user.email;
  document.getElementById("role").textContent = user.role;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  const given = Object.fromEntries(new FormData(form));
  form.elements.password.value = "";
  const answer = await ask("POST", "auth/session", given);
  if (answer.status !== 201) {
    problem.textContent = answer.body.detail;
    return;
  }
  csrf = answer.body.csrf_token;
  show(answer.body.user);
});

document.getElementById("sign-out").addEventListener("click", async () => {
  const answer = await ask("DELETE", "auth/session");
  if (answer.status !== 200 && answer.status !== 401) {
    problem.textContent = answer.body.detail;
    return;
  }
  csrf = "";
  show(null);
});

// Who comes back with a session gets its token by asking who they are.
ask("GET", "auth/session").then((answer) => {
  csrf = answer.status === 200 ? answer.body.csrf_token : "";
  show(answer.status === 200 ? answer.body.user : null);
});
