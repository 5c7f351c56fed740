"""A command-line client against a server: `freshblu_cli_checks.py KIND PROGRAM HTTP_ADDRESS`.

KIND is npm (freshblu-cli from npm), rust (freshblu-cli, the Rust crate), or meshring (ours). All
three have the same commands; what differs is written down in `KINDS`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

from checks import PATIENCE_S, equal, finish, run, that, unique

KIND, PROGRAM = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
URL = f"http://{sys.argv[3]}"
NOBODY = "00000000-0000-4000-8000-000000000001"

# Without variables that would say who to be.
SURROUNDINGS = {name: value for name, value in os.environ.items()
                if not name.startswith(("MESHRING_", "FRESHBLU_", "MESHBLU_"))}

# The file with credentials, and whether a refusal shows in the exit code. The Rust crate shows the
# refusal as if it were an answer.
FILE, FAILS = {"npm": ("freshblu.json", True), "rust": ("freshblu.json", False),
               "meshring": ("meshring.json", True)}[KIND]


class Folder:
    """A directory with the credentials of one device."""

    def __init__(self, *register):
        self.folder = tempfile.TemporaryDirectory()
        self.device = self.json("register", *register)
        self.uuid = self.device["uuid"]

    def run(self, *words, stdin=""):
        line = [PROGRAM, "--server", URL, "-f", "json", *words]
        return subprocess.run(line, cwd=self.folder.name, input=stdin, capture_output=True, text=True,
                              timeout=PATIENCE_S, env=SURROUNDINGS)

    def json(self, *words, stdin=""):
        """What a command says that must succeed; some have nothing to say."""
        done = self.run(*words, stdin=stdin)
        equal(done.returncode, 0, f"exit code of {words}, which said {done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, said, *words, code=1):
        done = self.run(*words)
        text = done.stderr if FAILS else done.stdout
        that(said in text, f"{words} says {text!r}, not {said!r}")
        equal(done.returncode, (code if KIND == "meshring" else 1) if FAILS else 0, "exit code")


def registers_and_says_who_it_is():
    folder = Folder("-t", "sensor", "-d", '{"name":"pond"}')
    equal((folder.device["type"], folder.device["name"]), ("sensor", "pond"))
    kept = json.loads(pathlib.Path(folder.folder.name, FILE).read_text())
    equal(kept, {"uuid": folder.uuid, "token": folder.device["token"], "server": URL}, "what is kept")
    equal(folder.json("whoami")["uuid"], folder.uuid)


def says_that_the_server_is_well():
    equal(Folder().json("status")["online"], True)


def gets_updates_and_finds_devices():
    folder, kind = Folder(), unique("kind")
    equal(folder.json("update", "-d", json.dumps({"type": kind, "x": 1}))["x"], 1)
    equal(folder.json("update", folder.uuid, "-d", '{"x":2}')["x"], 2)
    equal(folder.json("get", folder.uuid)["x"], 2)
    found = folder.json("search", "-d", json.dumps({"type": kind}))
    equal([device["uuid"] for device in found], [folder.uuid])
    folder.refused("device not found", "get", NOBODY, code=5)


def acts_as_another():
    folder = Folder()
    actor = Folder("-d", json.dumps({"meshblu": {"whitelists": {"discover": {"as": [{"uuid": folder.uuid}]}}}}))
    view = [{"uuid": actor.uuid}]
    private = Folder("-d", json.dumps({"meshblu": {"whitelists": {"discover": {"view": view}}}}))
    folder.refused("device not found", "get", private.uuid, code=5)
    equal(folder.json("get", private.uuid, "--as", actor.uuid)["uuid"], private.uuid)


def unregisters():
    folder = Folder()
    folder.json("unregister")
    folder.refused("unauthorized", "whoami", code=4)


def wrong_tokens_are_refused():
    folder = Folder()
    folder.refused("unauthorized", "-U", folder.uuid, "-T", "wrong", "whoami", code=4)


def sends_messages():
    folder = Folder()
    message = json.dumps({"devices": ["*", folder.uuid], "payload": {"temp": 72}})
    equal(folder.json("message", "-d", message), {"sent": True})


def subscribes_in_both_spellings():
    folder, emitter = Folder(), Folder()
    # Ours goes on to show events unless told not to.
    options = ["--no-wait"] if KIND == "meshring" else []
    for kind in ("broadcast.sent", "message-received"):
        made = folder.json("subscribe", emitter.uuid, kind, *options)
        equal((made["emitterUuid"], made["subscriberUuid"]), (emitter.uuid, folder.uuid))
        equal(made["subscriptionType"], kind.replace(".", "-"))


def generates_and_revokes_tokens():
    folder = Folder()
    token = folder.json("token", "generate", folder.uuid, "--expires-on", "4102444800", "--tag", "t")["token"]
    equal(folder.json("-T", token, "whoami")["uuid"], folder.uuid)
    folder.json("token", "revoke", folder.uuid, token)
    folder.refused("unauthorized", "-U", folder.uuid, "-T", token, "whoami", code=4)


def shows_its_configuration():
    folder = Folder()
    shown = folder.json("config")
    equal((shown["server"], shown["uuid"]), (URL, folder.uuid))
    that(folder.device["token"] not in json.dumps(shown), "the token is shown")


class Watcher:
    """Our own `subscribe`, while it waits for `count` events."""

    def __init__(self, folder, *words, count):
        line = [PROGRAM, "--server", URL, "subscribe", *words, "--count", str(count)]
        self.process = subprocess.Popen(line, cwd=folder.folder.name, text=True, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=SURROUNDINGS)
        self.killer = threading.Timer(PATIENCE_S, self.process.kill)
        self.killer.start()
        said = self.process.stderr.readline()
        that("subscribed" in said, f"subscribe says {said}")

    def events(self):
        out, errors = self.process.communicate()
        self.killer.cancel()
        equal(self.process.returncode, 0, f"exit code, after {errors},")
        return [json.loads(line) for line in out.splitlines()]


def shows_events_as_they_come():
    folder, emitter = Folder(), Folder()
    watcher = Watcher(folder, emitter.uuid, "broadcast.sent", count=3)
    for number in range(2):
        emitter.json("message", "-d", json.dumps({"devices": ["*"], "payload": number}))
    emitter.json("message", "-d", "-", stdin=json.dumps({"devices": [folder.uuid], "payload": 2}))
    events = [(event["event"], event["fromUuid"], event["payload"]) for event in watcher.events()]
    equal(events, [("broadcast", emitter.uuid, 0), ("broadcast", emitter.uuid, 1), ("message", emitter.uuid, 2)])
    listed = folder.json("subscriptions")
    equal([made["emitterUuid"] for made in listed], [emitter.uuid])
    folder.json("unsubscribe", emitter.uuid, "broadcast.sent")
    equal(folder.json("subscriptions"), [])


def may_not_watch_what_is_closed():
    folder = Folder()
    private = Folder("-d", '{"meshblu":{"whitelists":{}}}')
    folder.refused("forbidden", "subscribe", private.uuid, "broadcast.sent", code=4)


def lists_claims_and_resets():
    folder, other = Folder(), Folder()
    equal(folder.json("claim", other.uuid)["owner"], folder.uuid)
    equal([device["uuid"] for device in folder.json("mydevices")], [folder.uuid, other.uuid])
    folder.json("token", "generate", "--tag", "t")
    equal([token["tag"] for token in folder.json("token", "list", "--tag", "t")], ["t"])
    fresh = folder.json("token", "reset")["token"]
    folder.refused("unauthorized", "whoami", code=4)
    equal(folder.json("-T", fresh, "whoami")["uuid"], folder.uuid)


def exit_codes_are_as_documented():
    folder = Folder()
    equal(folder.run("--server", "http://127.0.0.1:1", "status").returncode, 2, "twice a server")
    line = [PROGRAM, "--server", "http://127.0.0.1:1", "status"]
    equal(subprocess.run(line, capture_output=True).returncode, 3, "no server")
    equal(folder.run("update", "-d", "[]").returncode, 2, "no object")
    equal(folder.run("-U", NOBODY, "whoami").returncode, 2, "no token")
    equal(folder.run("register").returncode, 2, "a file that is there")
    equal(folder.run("token", "revoke", "unknown").returncode, 5, "no such token")


def main():
    checks = [registers_and_says_who_it_is, says_that_the_server_is_well, gets_updates_and_finds_devices,
              acts_as_another, unregisters, wrong_tokens_are_refused, sends_messages,
              subscribes_in_both_spellings, generates_and_revokes_tokens, shows_its_configuration]
    if KIND == "meshring":
        checks += [shows_events_as_they_come, may_not_watch_what_is_closed, lists_claims_and_resets,
                   exit_codes_are_as_documented]
    name = {"npm": "freshblu-cli npm", "rust": "freshblu-cli rust", "meshring": "meshring cli"}[KIND]
    finish([run(name, checks)])


if __name__ == "__main__":
    main()
