"""A receiver that takes thousands of webhooks, in a process of its own.

``python -m tests.webhooks.receiver PORT FILE``: it answers 204 at once, or never below /hang/. On SIGTERM it writes
what it got into FILE, a line of JSON each.
"""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

got: list[dict[str, Any]] = []


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    path = first.split()[1]
    if not path.startswith("/hang/"):
        got.append({"path": path, "at": time.time(), "headers": headers, "body": body.decode()})
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        return
    await reader.read()  # until the client gives up
    writer.close()


async def main(port: int, file: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    await stop.wait()
    server.close()
    file.write_text("".join(json.dumps(each) + "\n" for each in got))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
