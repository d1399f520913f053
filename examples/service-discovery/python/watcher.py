"""Prints every change of a key, or of all instances of a service.

python watcher.py --key "services/api-gateway/node1"
python watcher.py --service api-gateway
"""

import argparse
import asyncio
import contextlib
import sys

import hither
from record import endpoints


async def main() -> None:
    parser = argparse.ArgumentParser(description="Watches a key, or a whole service.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--key", help="the key to watch")
    which.add_argument("--service", help="the service to watch: all its instances")
    args = parser.parse_args()

    async with hither.connect() as client:
        watch = client.watch(args.key) if args.key else client.watch(prefix=f"services/{args.service}/")
        async with watch as updates:
            print("watching; Ctrl-C ends it", file=sys.stderr, flush=True)
            async for update in updates:
                for event in update:
                    match event:
                        case hither.PutEvent():
                            print(f"[PUT] {event.key} = {endpoints(event.entry.value)}", flush=True)
                        case hither.DeleteEvent():
                            print(f"[DELETE] {event.key}", flush=True)


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
