/**
 * Runs inside the router's namespace: takes connections of hosts to port 80 of the given addresses and passes them on to
 * Unix sockets of the drill. Says `ready` when it listens everywhere.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

interface Passage {
  readonly address: string;
  readonly socket: string;
  /** The first line that the socket gets is the address of the host. */
  readonly tellSource: boolean;
}

function pass(host: Socket, { socket, tellSource }: Passage): void {
  const drill = connect(socket);
  for (const end of [host, drill]) end.on('error', () => {}).on('close', () => (end === host ? drill : host).destroy());
  if (tellSource) drill.write(`${host.remoteAddress}\n`);
  host.pipe(drill).pipe(host);
}

const passages: readonly Passage[] = JSON.parse(process.argv[2] ?? '[]');
for (const passage of passages) {
  const server = createServer({ allowHalfOpen: true }, (host) => pass(host, passage));
  await once(server.listen(80, passage.address), 'listening');
}
process.stdout.write('ready\n');
