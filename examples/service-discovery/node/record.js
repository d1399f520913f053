// What both programs share: how the record of a service is shown.

/** The endpoints of a service record, whoever wrote it; a value that is no record is shown as it is. */
export function endpoints(value) {
  try {
    return JSON.parse(value.toString()).endpoints.map(show).join(", ");
  } catch {
    return value.toString();
  }
}

function show({ scheme, host, port }) {
  const address = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  return scheme === "tcp" ? address : `${scheme}://${address}`;
}
