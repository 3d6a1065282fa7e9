"""A mail server on this machine that takes mails, refuses them, or hangs."""

import socketserver
import threading
from contextlib import contextmanager


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mails, or answers otherwise at one of the commands. It hangs at one whose answer is empty."""

    daemon_threads = True

    def __init__(self):
        self.answers, self.mails, self.hung = {}, [], threading.Event()
        super().__init__(("127.0.0.1", 0), _Conversation)


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self):
        self.say("220 ready")
        for line in self.rfile:
            command = line.split()[0].decode().upper()
            answer = self.server.answers.get(command, "354 go on" if command == "DATA" else "250 fine")
            if not answer:
                self.server.hung.set()
                self.rfile.read()  # until the other side is gone
                return
            self.say(answer)
            if command == "DATA":
                self.server.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                self.say("250 taken")

    def say(self, answer):
        self.wfile.write(f"{answer}\r\n".encode())


@contextmanager
def mail_server():
    with MailServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
