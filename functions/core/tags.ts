/** The tags by which Keeper knows what is its own. Everything it acts on carries {@link DATABASE_TAG}. */
export const DATABASE_TAG = 'keeper:database';
/**
 * `host` on instances, `scratch` on those that only look at a clone, `data` on the data volume, `superseded` on one that
 * another has replaced, `backup` on a nightly snapshot, `pre-change` on one that a runbook took before it changed something.
 */
export const ROLE_TAG = 'keeper:role';
export const PRE_CHANGE_ROLE = 'pre-change';
export const SUPERSEDED_ROLE = 'superseded';
export const BACKUP_ROLE = 'backup';
export const SCRATCH_ROLE = 'scratch';
/** On what is kept for a while: when it is to be removed (ISO 8601). */
export const EXPIRES_AT_TAG = 'keeper:expires-at';
/** On a host: the name of the relocation that launched it. */
export const EXECUTION_TAG = 'keeper:execution';
/** On a host: the container image that it was launched for. */
export const IMAGE_TAG = 'keeper:image';
/** On a data volume: `true` until it has been initialised. Only such a volume is ever formatted. */
export const BLANK_TAG = 'keeper:blank';
/** On a host: when it was proven, with a write, that it serves the database (ISO 8601). */
export const VERIFIED_AT_TAG = 'keeper:verified-at';
/** On a host: when AWS announced that it takes it (ISO 8601). */
export const INTERRUPTED_AT_TAG = 'keeper:interrupted-at';
/**
 * On a data volume: when Keeper had it modified, the last four times (ISO 8601, separated by spaces, newest last). EC2
 * itself tells of the newest modification only.
 */
export const MODIFIED_AT_TAG = 'keeper:modified-at';
/** On a snapshot: the id of the census that was written into the database right before it. */
export const CENSUS_TAG = 'keeper:census';
/** On a snapshot: when a verification of it last succeeded (ISO 8601), and how thorough that was. */
export const PROVEN_AT_TAG = 'keeper:proven-at';
export const LEVEL_TAG = 'keeper:level';
