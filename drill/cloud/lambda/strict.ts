import { NotModelled, type Shape } from '../kernel.ts';

/** Makes the error for what a function may not use here. It voids the run even when the function catches it. */
export type Refuse = (what: string) => NotModelled;

/** @param fail is told of every refusal */
export function createRefuse(fail: (error: NotModelled) => void): Refuse {
  return (what) => {
    const error = new NotModelled(`the local cloud's Lambda runtime does not model ${what}`);
    fail(error);
    return error;
  };
}

/** What bundlers and promises ask of every module. */
const PROBES: readonly PropertyKey[] = ['__esModule', 'default', 'then'];

/** An object whose missing members are not undefined but refused. */
export function strict(what: string, members: Shape, refuse: Refuse): Shape {
  return new Proxy(members, {
    get(target, key) {
      if (key in target || typeof key === 'symbol' || PROBES.includes(key)) return target[key];
      throw refuse(`${what}.${key}`);
    },
  });
}
