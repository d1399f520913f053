"""What both programs share: how the record of a service is shown."""

import json


def endpoints(value: bytes) -> str:
    """The endpoints of a service record, whoever wrote it; a value that is no record is shown as it is."""
    try:
        record = json.loads(value)
        return ", ".join(show(endpoint) for endpoint in record["endpoints"])
    except (ValueError, KeyError, TypeError):
        return value.decode(errors="replace")


def show(endpoint: dict[str, str]) -> str:
    host = f"[{endpoint['host']}]" if ":" in endpoint["host"] else endpoint["host"]
    address = f"{host}:{endpoint['port']}"
    return address if endpoint["scheme"] == "tcp" else f"{endpoint['scheme']}://{address}"
