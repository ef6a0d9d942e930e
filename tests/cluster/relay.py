"""Carry connections from a socket that we were given to an address that only we can reach.

Usage: relay.py DESCRIPTOR ADDRESS PORT

The socket listens on loopback outside and was made there; this process runs inside a machine, so the address is looked
for in the machine's network. It knows nothing of what it carries.
"""

import asyncio
import contextlib
import socket
import sys

PIECE = 1 << 18


async def main(descriptor: int, address: str, port: int) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(address, port, limit=PIECE)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pour(reader, there[1]), _pour(there[0], writer))
        there[1].close()
        writer.close()

    server = await asyncio.start_server(carry, sock=socket.socket(fileno=descriptor), limit=PIECE)
    await server.serve_forever()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on until the end, then the end itself; a broken connection breaks the other side's, too."""
    try:
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
    except OSError:
        with contextlib.suppress(OSError):
            writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
