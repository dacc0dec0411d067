"""A Matrix client by MSC3079 over OSCORE: CBOR with integer keys, short paths, a token that is sent once, and
sockets that change. The server tells what it was asked. usage: matrix_client.py PORT FOLDER first|second"""
import asyncio
import json
import pathlib
import sys

import aiocoap_peer
import cbor2
from aiocoap_peer import aiocoap

CBOR = 60
AUTHORIZATION = 256
HELLO = {28: "m.text", 27: "Hello"}


async def session(port, folder, life):
    failures = 0

    def judge(what, good, detail=""):
        nonlocal failures
        failures += not good
        print(f"{life}: {what}", "ok" if good else f"FAILED {detail}", flush=True)

    async def ask(context, code, path, body=None, token=None):
        message = aiocoap.Message(code=code, uri=f"coap://127.0.0.1:{port}{path}",
                                  payload=b"" if body is None else cbor2.dumps(body))
        if body is not None:
            message.opt.content_format = CBOR
        if token is not None:
            message.opt.add_option(aiocoap.optiontypes.StringOption(AUTHORIZATION, token))
        answer = await asyncio.wait_for(context.request(message).response, 20)
        judge(f"{path} comes as CBOR", answer.opt.content_format == CBOR, answer)
        return cbor2.loads(answer.payload)

    context = await aiocoap.Context.create_client_context()
    aiocoap_peer.use_oscore(context, port, folder)
    told = await ask(context, aiocoap.POST, "/1", {2: "m.login.password", 69: "secret"})
    judge("login", told["target"] == "/_matrix/client/r0/login"
          and json.loads(told[27]) == {"type": "m.login.password", "password": "secret"}, told)
    path = "/9/!r:s/m.room.message/1"
    told = await ask(context, aiocoap.PUT, path, HELLO, "tok")
    judge("send", told["target"] == "/_matrix/client/r0/rooms/!r:s/send/m.room.message/1"
          and told[27] == '{"msgtype":"m.text","body":"Hello"}' and told[70] == "Bearer tok", told)
    await context.shutdown()

    # Another socket, the same keys: the session goes on, token and all.
    keys = context.client_credentials
    context = await aiocoap.Context.create_client_context()
    context.client_credentials = keys
    told = await ask(context, aiocoap.PUT, "/9/!r:s/m.room.message/2", HELLO)
    judge("send from another port", told[70] == "Bearer tok", told)
    # More than 250 characters; coap-client would cut it by itself.
    path = f"/path/{'p' * 200}/{'q' * 255}?q={'r' * 200}"
    message = aiocoap.Message(code=aiocoap.GET, uri=f"coap://127.0.0.1:{port}{path}")
    answer = await asyncio.wait_for(context.request(message).response, 20)
    judge("a long path", json.loads(answer.payload)["target"] == path, answer.payload)
    await context.shutdown()
    return 1 if failures else 0


if __name__ == "__main__":
    pathlib.Path(sys.argv[2]).mkdir(exist_ok=True)
    sys.exit(asyncio.run(session(int(sys.argv[1]), sys.argv[2], sys.argv[3])))
