const EXAMPLE = 'timescale/timescaledb:2.19.3-pg16';

/** From this major version on, the images keep their data in another directory. */
const FIRST_UNKNOWN_MAJOR = 18;

/** What is wrong with the name of a database's container image, with one that would do; undefined when nothing is. */
export function imageProblem(image: string): string | undefined {
  if (!/^[a-z0-9][a-z0-9._/-]*(:\w[\w.-]{0,127})(@sha256:[0-9a-f]{64})?$/.test(image))
    return `${JSON.stringify(image)} has no tag or is no image name; write for example ${EXAMPLE}`;
  if ((postgresMajor(image) ?? 0) >= FIRST_UNKNOWN_MAJOR)
    return `the images of PostgreSQL 18 and later keep their data elsewhere, which Keeper does not know yet; write for example ${EXAMPLE}`;
  if (/:latest(@|$)/.test(image))
    return `latest may be another PostgreSQL on the next host; write for example ${EXAMPLE}`;
  return undefined;
}

/** The major version of PostgreSQL, where the image's name tells it: `…-pg16`, `…:pg16.4-ts2.15`, `postgres:16.4`. */
export function postgresMajor(image: string): number | undefined {
  const major = /\bpg(\d+)/.exec(image)?.[1] ?? /(?:^|\/)postgres(?:ql)?:(\d+)/.exec(image)?.[1];
  return major === undefined ? undefined : Number(major);
}

/** The version of TimescaleDB, where the image's name tells it: `…:2.19.3-pg16`, `…:pg16.4-ts2.15.3`. */
export function timescaleVersion(image: string): readonly number[] | undefined {
  const version = /:(\d+(?:\.\d+)+)-pg\d/.exec(image)?.[1] ?? /-ts(\d+(?:\.\d+)+)/.exec(image)?.[1];
  return version?.split('.').map(Number);
}

/**
 * Why a database must be patched before another host is launched for another reason: what starts there would not be what the
 * present host runs, without anything that takes it back. Undefined when it is the same.
 *
 * @param recorded the image that the next host starts
 * @param host the one that serves; one that does not say which image it runs is taken to run the recorded one
 */
export function whyPatchFirst(
  database: string,
  recorded: string,
  { image = recorded }: { readonly image?: string },
): string | undefined {
  if (image === recorded) return undefined;
  return `${database} runs ${image}, and ${recorded} is what its next host would start; start keeper-patch first, which takes a snapshot and goes back when it does not serve`;
}
