import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { checked, NamespaceHolder, spawnBound } from './processes.ts';

/** Where hosts reach the AWS endpoint; any address that no subnet uses. */
export const ENDPOINT_URL = 'http://169.254.170.23';
const METADATA_ADDRESS = '169.254.169.254';
const GATEWAY = '169.254.1.1';
const GATEWAY_MAC = '02:00:00:00:00:01';
/** The client that stands outside of all hosts (TEST-NET-2, RFC 5737). */
const CLIENT_ADDRESS = '198.51.100.10';
const CLIENT_MAC = '02:00:00:00:00:02';

/** The end of a host's cable in the router. */
interface Link {
  readonly name: string;
  readonly mac: string;
  addresses: readonly string[];
}

/**
 * The network of the drill: one router namespace with a cable to every host and one to the client. It delivers an address
 * where it was last assigned to, drops what nobody has, and drops what a host sends from an address that is not its own,
 * as EC2 does. Neighbour entries are permanent, so no move waits for ARP.
 */
export class Network {
  readonly #router: NamespaceHolder;
  readonly #client: NamespaceHolder;
  readonly #proxy: ChildProcess;
  readonly #links = new Map<string, Link>();
  readonly #owners = new Map<string, string>();
  #made = 0;

  private constructor(router: NamespaceHolder, client: NamespaceHolder, proxy: ChildProcess) {
    this.#router = router;
    this.#client = client;
    this.#proxy = proxy;
  }

  /** @param sockets Unix sockets of the drill that answer for the instance metadata service and for AWS */
  static async start(sockets: { readonly metadata: string; readonly endpoint: string }): Promise<Network> {
    const router = await hold(`
      echo 1 >/proc/sys/net/ipv4/ip_forward
      echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter
      ip address add ${METADATA_ADDRESS}/32 dev lo
      ip address add ${new URL(ENDPOINT_URL).hostname}/32 dev lo
      ip route add blackhole default`);
    const client = await hold('');
    const proxy = spawnBound(
      router.enter(
        ['--net'],
        [
          process.execPath,
          fileURLToPath(new URL('./proxy.ts', import.meta.url)),
          JSON.stringify([
            { address: METADATA_ADDRESS, socket: sockets.metadata, tellSource: true },
            { address: new URL(ENDPOINT_URL).hostname, socket: sockets.endpoint, tellSource: false },
          ]),
        ],
      ),
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const network = new Network(router, client, proxy);
    await Promise.race([
      once(proxy.stdout as NodeJS.ReadableStream, 'data'),
      once(proxy, 'exit').then(() => Promise.reject(new Error('the proxy of the network did not start'))),
    ]);
    await network.#cable(client.pid, 'client', 'eth0', CLIENT_ADDRESS, CLIENT_MAC);
    await network.setAddresses('client', [CLIENT_ADDRESS]);
    return network;
  }

  /** Connects a host whose network namespace `pid` is in. */
  async connect(host: string, pid: number, address: string, mac: string): Promise<void> {
    await this.#cable(pid, host, 'ens5', address, mac);
  }

  async #cable(pid: number, host: string, name: string, address: string, mac: string): Promise<void> {
    const link: Link = { name: `link${this.#made++}`, mac, addresses: [] };
    await this.#ip(`link add ${link.name} address ${GATEWAY_MAC} type veth peer name ${name} address ${mac} netns ${pid}
      link set ${link.name} up`);
    await checked(
      ['nsenter', '--target', String(pid), '--net', 'ip', '-batch', '-'],
      `link set lo up
      link set ${name} up
      address add ${address}/32 dev ${name}
      neighbour add ${GATEWAY} lladdr ${GATEWAY_MAC} dev ${name} nud permanent
      route add ${GATEWAY} dev ${name} scope link src ${address}
      route add default via ${GATEWAY} dev ${name} src ${address}`,
    );
    this.#links.set(host, link);
  }

  /** From now on exactly these addresses are delivered to the host; one that another host had moves. */
  async setAddresses(host: string, addresses: readonly string[]): Promise<void> {
    const link = this.#links.get(host);
    if (!link) throw new Error(`${host} is not connected`);
    const changes: string[] = [];
    for (const address of link.addresses.filter((had) => !addresses.includes(had))) {
      changes.push(`neighbour del ${address} dev ${link.name}`);
      if (this.#owners.get(address) !== host) continue;
      this.#owners.delete(address);
      changes.push(`route del ${address}/32 dev ${link.name}`);
    }
    for (const address of addresses) {
      this.#owners.set(address, host);
      changes.push(`neighbour replace ${address} lladdr ${link.mac} dev ${link.name} nud permanent`);
      changes.push(`route replace ${address}/32 dev ${link.name}`);
    }
    link.addresses = addresses;
    await this.#ip(changes.join('\n'));
  }

  /** No packet of the host arrives anywhere any more. Its namespace takes the cable with it when it ends. */
  async disconnect(host: string): Promise<void> {
    const link = this.#links.get(host);
    if (!link) return;
    this.#links.delete(host);
    for (const address of link.addresses) if (this.#owners.get(address) === host) this.#owners.delete(address);
    await this.#ip(`link set ${link.name} down`);
  }

  /** argv that runs `command` on the client's side of the network. */
  onClient(command: readonly string[]): readonly string[] {
    return this.#client.enter(['--net'], command);
  }

  async close(): Promise<void> {
    this.#proxy.kill('SIGKILL');
    await Promise.all([this.#router.end(), this.#client.end()]);
  }

  async #ip(commands: string): Promise<void> {
    await checked(this.#router.enter(['--net'], ['ip', '-batch', '-']), commands);
  }
}

function hold(setup: string): Promise<NamespaceHolder> {
  const script = `set -e\nip link set lo up\n${setup}\necho ready\nexec sleep infinity`;
  return NamespaceHolder.start(['--net'], ['bash', '-c', script]);
}
