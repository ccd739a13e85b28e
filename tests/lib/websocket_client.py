"""A websocket client for tests/engine/websocket_test.lua.
websocket_client.py PORT HOST MODE: talks to ws://HOST through 127.0.0.1:PORT."""
import asyncio
import os
import sys

import websockets

port, host, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def connect():
    return websockets.connect(f"ws://{host}/talk", host="127.0.0.1", port=port,
                              max_size=1 << 24, open_timeout=20)


async def converse():
    async with connect() as ws:
        await ws.send("grüße")
        assert await ws.recv() == "grüße"
        block = os.urandom(1 << 22)
        await ws.send(block)
        assert await ws.recv() == block
        pong = await ws.ping()
        await asyncio.wait_for(pong, 10)


async def many():
    await asyncio.gather(*(converse() for _ in range(8)))
    print("conversed")


async def until_closed():
    async with connect() as ws:
        await ws.send("one")
        assert await ws.recv() == "one"
        print("open", flush=True)
        try:
            await asyncio.wait_for(ws.recv(), 20)
        except websockets.ConnectionClosed as e:
            print("closed", e.rcvd.code if e.rcvd else "without a word")


async def cut():
    async with connect() as ws:
        await ws.send("one")
        await ws.recv()
        # A frame that announces more than is sent.
        ws.transport.write(b"\x82\xfe\x10\x00")
        await asyncio.sleep(0.2)
        ws.transport.abort()
    print("cut")


asyncio.run({"many": many, "until_closed": until_closed, "cut": cut}[mode]())
