/**
 * Reads a variable that the stack gives the function.
 *
 * @throws Error while the function initialises, naming the variable
 */
export function requireVariable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`the environment variable ${name} is missing: deploy the stack again`);
  return value;
}
