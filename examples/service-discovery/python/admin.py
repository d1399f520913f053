"""Registers and unregisters instances of services, for programs that do not do it themselves.

python admin.py register --name api-gateway --instance node1 --endpoint "192.168.1.10:8080"
python admin.py unregister --name api-gateway --instance node1
"""

import argparse
import asyncio
import contextlib
import sys

import hither


async def main() -> None:
    parser = argparse.ArgumentParser(description="Registers and unregisters instances of services.")
    commands = parser.add_subparsers(dest="command", required=True)
    register = commands.add_parser("register", help="register an instance")
    unregister = commands.add_parser("unregister", help="take an instance out")
    for command in (register, unregister):
        command.add_argument("--name", required=True, help="the service")
        command.add_argument("--instance", required=True, help="the instance, unique in its service")
    register.add_argument("--endpoint", required=True, help="where it listens: HOST:PORT, or SCHEME://HOST:PORT")
    tie = register.add_mutually_exclusive_group()
    tie.add_argument("--ttl", type=float, help="it stays for so many seconds")
    tie.add_argument("--hold", action="store_true", help="it stays for as long as this program runs")
    args = parser.parse_args()

    async with hither.connect() as client:
        match args.command:
            case "register" if args.hold:
                async with client.register(args.name, id=args.instance, endpoints=[args.endpoint]) as registration:
                    print("registered until Ctrl-C", file=sys.stderr, flush=True)
                    await registration.lost()
                    sys.exit("the registration is lost: no server confirmed it in time")
            case "register" if args.ttl:
                lease = await client.leases.grant(args.ttl)
                await client.register(args.name, id=args.instance, endpoints=[args.endpoint], lease=lease.id)
            case "register":
                await client.register(args.name, id=args.instance, endpoints=[args.endpoint], permanent=True)
            case "unregister":
                key = f"services/{args.name}/{args.instance}"
                if (await client.kv.delete(key)).deleted == 0:
                    print(f"{key} was not registered", file=sys.stderr)


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
