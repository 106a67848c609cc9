/** The tags by which Keeper knows what is its own. Everything it acts on carries {@link DATABASE_TAG}. */
export const DATABASE_TAG = 'keeper:database';
/** `host` on instances, `data` on the data volume. */
export const ROLE_TAG = 'keeper:role';
/** On a host: the name of the relocation that launched it. */
export const EXECUTION_TAG = 'keeper:execution';
/** On a data volume: `true` until it has been initialised. Only such a volume is ever formatted. */
export const BLANK_TAG = 'keeper:blank';
/** On a host: when it was proven, with a write, that it serves the database (ISO 8601). */
export const VERIFIED_AT_TAG = 'keeper:verified-at';
/** On a host: when AWS announced that it takes it (ISO 8601). */
export const INTERRUPTED_AT_TAG = 'keeper:interrupted-at';
