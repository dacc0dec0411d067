"""aiocoap as server and as client of the resources that coap_peer.cpp describes.

usage: aiocoap_peer.py server | client PORT [FOLDER]     with a folder for its keys: OSCORE
"""
import asyncio
import json
import pathlib
import socket
import sys
import types

# aiocoap speaks OSCORE only when these two are there; nothing here calls them (group signatures, EDHOC).
for name in ("ge25519", "lakers"):
    sys.modules.setdefault(name, types.ModuleType(name))

import aiocoap  # noqa: E402
from aiocoap import resource  # noqa: E402

LARGE = bytes(97 + i % 26 for i in range(5000))


class Fixed(resource.Resource):
    def __init__(self, body, wait=0):
        super().__init__()
        self.body, self.wait = body, wait

    async def render_get(self, request):
        await asyncio.sleep(self.wait)
        return aiocoap.Message(code=aiocoap.CONTENT, payload=self.body)


class Echo(resource.Resource):
    async def render_put(self, request):
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload)

    async def render_fetch(self, request):
        return aiocoap.Message(code=aiocoap.CONTENT, payload=request.payload)


class Ticks(resource.ObservableResource):
    def __init__(self):
        super().__init__()
        self.count = 0
        self.task = asyncio.get_running_loop().create_task(self.tick())

    async def tick(self):
        while True:
            await asyncio.sleep(0.3)
            self.count += 1
            self.updated_state()

    async def render_get(self, request):
        return aiocoap.Message(code=aiocoap.CONTENT, payload=b"tick %d" % self.count)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def serve():
    site = resource.Site()
    site.add_resource(["text"], Fixed(b"ravine"))
    site.add_resource(["large"], Fixed(LARGE))
    site.add_resource(["slow"], Fixed(b"late", 1.5))
    site.add_resource(["echo"], Echo())
    site.add_resource(["ticks"], Ticks())
    port = free_port()
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port))
    print(f"listening {port}", flush=True)
    await asyncio.get_running_loop().create_future()


# coap_peer.cpp has the same.
KEYS = {"sender-id_ascii": "c", "recipient-id_ascii": "s", "secret_hex": "0102030405060708090a0b0c0d0e0f10",
        "salt_hex": "9e7ca92223786340"}


def use_oscore(context, port, folder):
    pathlib.Path(folder, "settings.json").write_text(json.dumps(KEYS))
    context.client_credentials.load_from_dict({f"coap://127.0.0.1:{port}/*": {"oscore": {"basedir": folder}}})


async def client(port, keys_folder):
    context = await aiocoap.Context.create_client_context()
    if keys_folder:
        use_oscore(context, port, keys_folder)
    failures = 0

    def judge(what, good):
        nonlocal failures
        failures += not good
        print(what, "ok" if good else "FAILED", flush=True)

    async def ask(code, path, payload=b"", **options):
        message = aiocoap.Message(code=code, uri=f"coap://127.0.0.1:{port}{path}", payload=payload, **options)
        return await asyncio.wait_for(context.request(message).response, 20)

    answer = await ask(aiocoap.GET, "/text")
    judge("text", answer.payload == b"ravine" and answer.opt.content_format == 0)
    judge("missing", (await ask(aiocoap.GET, "/nothing")).code == aiocoap.NOT_FOUND)
    judge("large", (await ask(aiocoap.GET, "/large")).payload == LARGE)
    bodies = [LARGE[:3000], LARGE[1000:4800], LARGE]
    answers = await asyncio.gather(*(ask(aiocoap.PUT, f"/echo?{number}", body)
                                   for number, body in enumerate(bodies)))
    judge("put", [answer.payload for answer in answers] == bodies)
    judge("fetch", (await ask(aiocoap.FETCH, "/echo", b"question")).payload == b"question")
    judge("slow", (await ask(aiocoap.GET, "/slow")).payload == b"late")
    observation = context.request(
        aiocoap.Message(code=aiocoap.GET, uri=f"coap://127.0.0.1:{port}/ticks", observe=0))
    ticks = {(await asyncio.wait_for(observation.response, 20)).payload}

    async def collect():
        async for notification in observation.observation:
            ticks.add(notification.payload)
            if len(ticks) >= 4:
                return

    await asyncio.wait_for(collect(), 20)
    judge("observe", len(ticks) >= 4)
    await context.shutdown()
    return 1 if failures else 0


def main():
    if sys.argv[1] == "server":
        asyncio.run(serve())
    return asyncio.run(client(int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None))


if __name__ == "__main__":
    sys.exit(main())
