/**
 * The addresses of a zone in Keeper's own network. They follow from the zone's letter, so that a zone keeps its addresses
 * when another one joins.
 *
 * @param zone e.g. `us-east-1a`
 */
export function addressesOf(zone: string): { subnet: string; reserved: string; first: string; last: string } {
  const third = zone.charCodeAt(zone.length - 1) - 'a'.charCodeAt(0);
  const at = (last: string) => `10.77.${third}.${last}`;
  return { subnet: at('0/24'), reserved: at('16/28'), first: at('16'), last: at('31') };
}

/** Whether a database in the zone may have the address: it is one of those that EC2 gives no host by itself. */
export function isReserved(address: string, zone: string): boolean {
  const { first } = addressesOf(zone);
  const prefix = first.slice(0, first.lastIndexOf('.') + 1);
  const last = Number(address.slice(prefix.length));
  return address === `${prefix}${last}` && last >= 16 && last <= 31;
}
