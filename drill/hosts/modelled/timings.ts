// Measured on real hosts with a real TimescaleDB, from the fastest to the slowest of a case (planned stop, move, start;
// crash recovery after SIGKILL; xfs_growfs), in milliseconds.
export const STOP_DATABASE = [300, 400] as const;
export const UNMOUNT = [60, 90] as const;
export const START_CLEAN = [550, 650] as const;
export const START_RECOVERING = [1000, 6000] as const;
export const GROW_FILE_SYSTEM = [10, 20] as const;
// Inferred: one XFS mount, mkfs.xfs of a small volume, `docker create`, initdb with TimescaleDB's scripts.
export const MOUNT = [20, 60] as const;
export const FORMAT = [200, 600] as const;
export const CREATE_CONTAINER = [200, 500] as const;
export const INITDB = [3000, 6000] as const;
export const WRITE = [5, 60] as const;
/** Median and 99th percentile of a CHECKPOINT: 4.96 s were measured with 20,000 dirty buffers. */
export const CHECKPOINT = [150, 4960] as const;
export const SLOW_BOOT_MS = 180_000;
/** docs.aws.amazon.com/cli/latest/userguide/cli-configure-retries.html: standard mode */
export const CLI_ATTEMPTS = 3;
/** Measured: a count of each chunk's rows took 0.2 s for 1.26 million of them. */
export const CENSUS = [200, 2000] as const;
/** Measured on a clone: 10 s a GiB for pg_amcheck and a read of everything together; here of the whole volume. */
export const READ_GIB = [8000, 12_000] as const;
// From the scripts themselves.
export const DEVICE_POLL_MS = 20;
export const GROW_POLL_MS = 200;
export const GROW_WAIT_MS = 60_000;
export const REPORT_TIMEOUT_MS = 20_000;
export const REPORT_RELEASED_AFTER_MS = 15_000;
export const HEARTBEAT_MS = 60_000;
export const CLONE_TIMEOUT_MS = 120_000;
export const WATCHDOG_MS = 780 * 60_000;
export const DOCKER_STOP_TIMEOUT_MS = 120_000;
export const UNMOUNT_TIMEOUT_MS = 15_000;
export const FINAL_CHECKPOINT_TIMEOUT_MS = 10_000;
