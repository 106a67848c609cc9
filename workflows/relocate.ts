import { Duration, Stack, Validations } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as lambda from 'aws-cdk-lib/aws-lambda';
import type * as sns from 'aws-cdk-lib/aws-sns';
import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import * as tasks from 'aws-cdk-lib/aws-stepfunctions-tasks';
import { Construct } from 'constructs';
import type { HostSpec } from '../functions/core/host-spec.ts';
import { Capabilities } from './capabilities.ts';
import { catchAll, causeOf } from './failures.ts';
import { type Databases, findDatabase } from './find-database.ts';
import { jsonata } from './jsonata.ts';
import { grant, type Permission } from './permission.ts';
import { runCommand, UNANSWERED } from './run-command.ts';
import { type TellProps, tell } from './tell.ts';

/** A document of Systems Manager, by name and ARN. */
export interface CommandDocument {
  readonly documentName: string;
  readonly arn: string;
}

export interface RelocateProps {
  readonly databases: Databases;
  readonly functions: Readonly<Record<'look' | 'launch' | 'move' | 'retire', lambda.IFunction>>;
  readonly commands: Readonly<Record<'checkpoint' | 'verify', CommandDocument>>;
  /** Where people are told. */
  readonly topic: sns.ITopic;
}

/** What an execution is started with. */
export interface RelocateInput {
  readonly database: string;
  /** The instance that is to be left. */
  readonly source?: string;
  /** For people: why. */
  readonly reason?: string;
  /** When AWS announced that it takes the source, ISO 8601. */
  readonly noticedAt?: string;
  /** What is to be different on the new host. */
  readonly host?: Partial<HostSpec>;
  /** What is recorded of that for later hosts, once the new one has proven itself; default: the same. */
  readonly record?: Partial<HostSpec>;
  /** `spot`: it is no move when only on demand can be had. */
  readonly lifecycle?: 'spot';
  /** Nothing forces this move: it is called off when no host can be had, and goes back when the new one does not serve. */
  readonly planned?: boolean;
}

/** How long the checkpoint may write; longer than the arming takes would only delay the move. */
export const CHECKPOINT_SECONDS = 20;
export const VERIFY_SECONDS = 40;

/** Replacements that may fail for another reason than capacity before a person is needed. */
const MOST_FAILED_HOSTS = 5;
/** Verifications at least three seconds apart: ten minutes and more, for an agent that comes late and a long crash recovery. */
const MOST_VERIFICATIONS = 200;
/** Times that the host is asked itself, at least two seconds apart, before Systems Manager is asked to look. */
const MOST_QUESTIONS = 15;
/** For `retire`: nothing was left, and nobody has proven anything. */
const NOBODY_PROVEN = { sources: [], verified: jsonata("''"), record: {} };
const NEVER_ASKED = { status: 'NotAsked', detail: 'not asked yet', stdout: 'nothing' };
/** Attempts to arm a replacement in one execution: about an hour; reconcile starts the next one. */
const MOST_ATTEMPTS = 300;
/** People are told of missing capacity at once, and then every tenth time: about every three minutes. */
const TELL_EVERY = 10;
/** And of a move that does not get on every seventh time: about every five minutes. */
const TELL_WAITING_EVERY = 7;

/** What went wrong with a host, added to what went wrong before; the last five, because mails and causes are limited. */
function trouble(text: string): string {
  return jsonata(`[$append($troubles, $substring(${text}, 0, 400))[[-5..-1]]]`);
}

/** What a function throws when trying again is of no use. @see functions/core/errors.ts */
const PERMANENT_ERRORS = ['VolumeUnusable', 'MalformedInput', 'UnauthorizedOperation', 'AccessDeniedException'];

/**
 * Brings a database's volume and address from one host to another.
 *
 * Input: {@link RelocateInput}. Without a source it is the host that holds the volume; when none does (the first boot, a
 * lost host) the database comes up on a new one.
 *
 *   Look ─ arm ──► Prepare (arm a replacement ∥ checkpoint) ──► Move the volume ──► Verify ──► Retire the source ──► Publish
 *     ▲   ├ move (the deadline has passed) ───────────────────────▲   │               │
 *     │   └ back (a planned move whose new host does not serve) ──┘   │               │
 *     └──────────── not armed, target lost, not verified ─────────────┴───────────────┘
 *
 * Every way out is honest: Relocated, Nothing to do (with the reason), or a failure that tells people. A relocation that
 * has stopped the source goes on until a host serves or the machine's timeout ends it, and then reconcile starts the next.
 * A planned one that did not get what it wanted fails, with its reasons, once the database serves again.
 */
export class Relocate extends Construct {
  readonly stateMachine: sfn.StateMachine;
  readonly #props: RelocateProps;
  #cleanUp: sfn.State | undefined;
  #leaving: sfn.Choice | undefined;
  #finished: sfn.State | undefined;
  #told: sfn.State | undefined;

  constructor(scope: Construct, id: string, props: RelocateProps) {
    super(scope, id);
    this.#props = props;
    const role = new iam.Role(this, 'Role', { assumedBy: new iam.ServicePrincipal('states.amazonaws.com') });
    const policies = this.#policies(role);
    this.stateMachine = new sfn.StateMachine(this, 'StateMachine', {
      stateMachineName: `${Stack.of(this).stackName.toLowerCase()}-relocate`,
      queryLanguage: sfn.QueryLanguage.JSONATA,
      definitionBody: sfn.DefinitionBody.fromChainable(this.#definition()),
      role: role.withoutPolicyUpdates(),
      timeout: Duration.hours(6),
    });
    Validations.of(this.stateMachine).acknowledge(
      {
        id: 'AwsSolutions-SF1',
        reason:
          'Step Functions keeps the history of a Standard execution for 90 days; a log would add task tokens to it.',
      },
      {
        id: 'AwsSolutions-SF2',
        reason: 'The history says when each state was entered and left.',
      },
    );
    this.stateMachine.node.addDependency(...policies);
  }

  #definition(): sfn.IChainable {
    return findDatabase(this, {
      databases: this.#props.databases,
      variables: {
        source: jsonata("$exists($states.input.source) ? $states.input.source : ''"),
        attempt: 1,
        failedHosts: 0,
        verifications: 0,
        unanswered: 0,
        asked: 0,
        report: { of: 'nobody', text: 'nothing' },
        verifyCommand: NEVER_ASKED,
        stopTried: false,
        sources: [],
        armed: jsonata("''"),
        // The newest host that had the volume and did not serve.
        left: jsonata("''"),
        planned: jsonata('$exists($states.input.planned) and $states.input.planned'),
        wayBack: jsonata("''"),
        wayBackTried: false,
        // Whether the host that served before was asked to release.
        disturbed: false,
        // How the newest replacement is made: `wanted` or `recorded`; `back` when it is the host that served before.
        madeAs: jsonata("''"),
        troubles: [],
      },
      next: this.#look(),
      failed: this.#failed(),
    });
  }

  #look(): sfn.State {
    const look = this.#invoke('Look', 'look', 30, {
      payload: {
        database: jsonata('$database'),
        execution: jsonata('$execution'),
        attempt: jsonata('$attempt'),
        source: jsonata('$source'),
        // The notice was for the host that was named, and for no later one.
        noticedAt: jsonata("$exists($request.noticedAt) and $source = $request.source ? $request.noticedAt : ''"),
        stopTried: jsonata('$stopTried'),
        planned: jsonata(
          "$planned ? { 'wayBackId': $wayBack, 'wayBackTried': $wayBackTried, 'disturbed': $disturbed } : false",
        ),
      },
      assign: {
        plan: jsonata('$states.result.Payload'),
        source: jsonata('$exists($states.result.Payload.sourceId) ? $states.result.Payload.sourceId : $source'),
        sources: jsonata('[$distinct($append($sources, $states.result.Payload.sourceId))]'),
        wayBack: jsonata(
          '$attempt = 1 and $states.result.Payload.sourceServes ? $states.result.Payload.sourceId : $wayBack',
        ),
        deadline: jsonata('$exists($states.result.Payload.deadline) ? $states.result.Payload.deadline : 0'),
        lookedAt: jsonata('$millis()'),
        again: 0,
        armed: jsonata("''"),
      },
    });
    const wait = sfn.Wait.jsonata(this, 'Wait a moment', { time: sfn.WaitTime.duration(Duration.seconds(5)) });
    wait.next(look);
    // Replacements of earlier attempts may be there.
    const retire = this.#retire('Retire what is not needed', NOBODY_PROVEN);
    retire.next(
      this.#standBack(
        'Nothing to do',
        { outcome: 'nothing to do', reason: '$plan.reason' },
        sfn.Succeed.jsonata(this, 'Nothing to do', { outputs: jsonata('$outcome') }),
      ),
    );
    const move = this.#move(look);
    const back = sfn.Pass.jsonata(this, 'Go back', {
      assign: { armed: jsonata('$plan.targetId'), wayBackTried: true, madeAs: 'back', stopTried: false },
    });
    back.next(move);
    const stayed = this.#retire('Retire what came too late', NOBODY_PROVEN);
    stayed.next(
      sfn.Succeed.jsonata(this, 'No Spot capacity', {
        outputs: {
          database: jsonata('$database.name'),
          outcome: 'called off',
          reason: jsonata("$plan.reason & '; ' & $troubles[-1]"),
        },
      }),
    );
    const callOff = sfn.Choice.jsonata(this, 'Does anybody wait for it?')
      // Nobody has asked for a return to Spot, which is tried again on another day. Hosts that fail are another matter.
      .when(sfn.Condition.jsonata(jsonata('$exists($request.lifecycle) and $failedHosts = 0')), stayed)
      .otherwise(
        this.#giveUp('Call it off', {
          Error: 'CalledOff',
          Cause: jsonata("$plan.reason & '; ' & $join($distinct($troubles), '; ')"),
        }),
      );
    look.next(
      sfn.Choice.jsonata(this, 'What next?')
        .when(sfn.Condition.jsonata(jsonata("$plan.next = 'arm'")), this.#prepare(look, move))
        .when(sfn.Condition.jsonata(jsonata("$plan.next = 'move'")), move)
        .when(sfn.Condition.jsonata(jsonata("$plan.next = 'back'")), back)
        .when(sfn.Condition.jsonata(jsonata("$plan.next = 'wait'")), wait)
        .when(sfn.Condition.jsonata(jsonata("$plan.next = 'call-off'")), callOff)
        .otherwise(retire),
    );
    return look;
  }

  /** Arms a replacement, and meanwhile lets the source write what the stop would have to. */
  #prepare(look: sfn.State, move: sfn.State): sfn.State {
    const notArmed = sfn.Pass.jsonata(this, 'Not armed', {
      outputs: {
        error: jsonata('$states.input.Error'),
        cause: jsonata(causeOf('$states.input', "'no report within ' & $plan.armSeconds & ' s'")),
      },
    });
    const arm = tasks.LambdaInvoke.jsonata(this, 'Arm a replacement', {
      lambdaFunction: this.#props.functions.launch,
      integrationPattern: sfn.IntegrationPattern.WAIT_FOR_TASK_TOKEN,
      payload: sfn.TaskInput.fromObject({
        database: jsonata('$database'),
        execution: jsonata('$execution'),
        attempt: jsonata('$attempt'),
        wanted: jsonata(
          "$plan.hosts = 'wanted' ? $merge([{}, $exists($request.host) ? { 'host': $request.host } : {}, $exists($request.lifecycle) ? { 'lifecycle': $request.lifecycle } : {}]) : {}",
        ),
        taskToken: jsonata('$states.context.Task.Token'),
      }),
      // The host answers, not the function: there is one attempt a token, and the next one is a new state entry.
      retryOnServiceExceptions: false,
      taskTimeout: sfn.Timeout.jsonata(jsonata('$plan.armSeconds')),
      outputs: { host: jsonata('$states.result.instanceId') },
    });
    arm.addCatch(notArmed, { errors: ['States.ALL'], outputs: jsonata('$states.errorOutput') });

    const done = sfn.Pass.jsonata(this, 'Checkpointed', { outputs: { checkpoint: 'done' } });
    const skipped = sfn.Pass.jsonata(this, 'No checkpoint', { outputs: { checkpoint: 'not needed' } });
    const failed = sfn.Pass.jsonata(this, 'Checkpoint failed', {
      outputs: { checkpoint: jsonata("$checkpointCommand.status & ': ' & $checkpointCommand.detail") },
    });
    const checkpoint = runCommand(this, 'Checkpoint', {
      documentName: this.#props.commands.checkpoint.documentName,
      hostId: '$source',
      parameters: { seconds: `'${CHECKPOINT_SECONDS}'` },
      comment: '$execution',
      executionSeconds: CHECKPOINT_SECONDS + 5,
      patienceSeconds: CHECKPOINT_SECONDS + 10,
      onSuccess: done,
      onFailure: failed,
    });
    const prepare = sfn.Parallel.jsonata(this, 'Prepare', {
      assign: {
        armed: jsonata("$exists($states.result[0].host) ? $states.result[0].host : ''"),
        notArmed: jsonata('$exists($states.result[0].error) ? $states.result[0] : {}'),
        checkpoint: jsonata('$states.result[1].checkpoint'),
        madeAs: jsonata('$plan.hosts'),
      },
    });
    prepare.branch(
      arm,
      sfn.Choice.jsonata(this, 'A source to checkpoint?')
        .when(sfn.Condition.jsonata(jsonata('$attempt = 1 and $plan.sourceServes')), checkpoint)
        .otherwise(skipped),
    );
    this.#catchAll(prepare);

    const next = sfn.Pass.jsonata(this, 'Next attempt', {
      assign: {
        attempt: jsonata('$attempt + 1'),
        failedHosts: jsonata("$notArmed.error = 'NoCapacity' ? $failedHosts : $failedHosts + 1"),
        troubles: trouble("$notArmed.error & ': ' & $notArmed.cause"),
      },
    });
    const wait = sfn.Wait.jsonata(this, 'Wait for another try', { time: sfn.WaitTime.duration(Duration.seconds(10)) });
    wait.next(next);
    next.next(look);
    const again = sfn.Choice.jsonata(this, 'Try again?')
      // A history has 25,000 events at most (Step Functions quotas), and an attempt is about 35.
      .when(
        sfn.Condition.jsonata(jsonata(`$attempt >= ${MOST_ATTEMPTS}`)),
        this.#giveUp('No host for hours', {
          Error: 'NoCapacity',
          Cause: jsonata("'the last attempt: ' & $notArmed.cause"),
        }),
      )
      .when(sfn.Condition.jsonata(jsonata("$notArmed.error = 'NoCapacity'")), wait)
      // Before the deadline there is always something left to do: the clean stop.
      .when(
        sfn.Condition.jsonata(jsonata(`$failedHosts < ${MOST_FAILED_HOSTS} or ($deadline > 0 and $not($stopTried))`)),
        wait,
      )
      .otherwise(
        this.#giveUp('No host could be armed', {
          Error: 'CannotArm',
          Cause: jsonata(
            "$failedHosts & ' replacements failed; the last: ' & $notArmed.error & ': ' & $notArmed.cause",
          ),
        }),
      );
    const tell = this.#tell('Tell people that nothing is armed', {
      subject: "'Keeper: no replacement for ' & $database.name & ' yet'",
      message:
        "'The database ' & $database.name & ' needs another host, and attempt ' & $attempt & ' brought none: ' & $notArmed.error & ': ' & $notArmed.cause & '\\n\\nKeeper keeps trying. ' & ($source = '' ? 'No host serves meanwhile.' : $source & ' serves as long as AWS leaves it; it is stopped cleanly before that.')",
      next: again,
    });
    prepare.next(
      sfn.Choice.jsonata(this, 'Armed?')
        .when(sfn.Condition.jsonata(jsonata("$armed != ''")), move)
        // Of a planned move whose source serves, people hear when it ends.
        .when(
          sfn.Condition.jsonata(
            jsonata(`$attempt % ${TELL_EVERY} = 1 and $not($planned and $plan.sourceServes and $not($disturbed))`),
          ),
          tell,
        )
        .otherwise(again),
    );
    return prepare;
  }

  #move(look: sfn.State): sfn.State {
    const move = this.#invoke('Move the volume', 'move', 70, {
      payload: {
        database: jsonata('$database'),
        execution: jsonata('$execution'),
        // On the way back it is the target.
        source: jsonata("$source = $armed ? '' : $source"),
        target: jsonata('$armed'),
        deadline: jsonata('$deadline'),
        fenceSource: jsonata('$exists($plan.fenceSource)'),
        sourceFailed: jsonata("$left != '' and $source = $left"),
        mayStay: jsonata("$planned and $plan.hosts = 'wanted' and $source = $wayBack"),
        startedAt: jsonata('$lookedAt'),
        executionStartedAt: jsonata('$states.context.Execution.StartTime'),
      },
      assign: {
        moved: jsonata('$states.result.Payload'),
        disturbed: jsonata('$disturbed or ($states.result.Payload.releaseSent and $source = $wayBack)'),
        stopTried: jsonata('$stopTried or ($deadline > 0 and $millis() >= $deadline)'),
        again: jsonata("$states.result.Payload.outcome = 'again' ? $again + 1 : 0"),
      },
    });
    const tell = this.#tell('Tell people that it takes long', {
      subject: "'Keeper: ' & $database.name & ' is still on its way'",
      message:
        "'The relocation ' & $execution & ' is waiting: ' & $moved.reason & '\\n\\nKeeper goes on. If this mail comes again, look at the data volume ' & $database.volumeId & ' in EC2.'",
      next: move,
    });
    const replace = sfn.Pass.jsonata(this, 'Another replacement', {
      assign: {
        attempt: jsonata('$attempt + 1'),
        notArmed: { error: 'TargetLost', cause: jsonata('$moved.reason') },
        troubles: trouble('$moved.reason'),
      },
    });
    replace.next(look);
    const superseded = this.#retire('Retire what nobody waits for', NOBODY_PROVEN);
    // The host that is to be left may be the very one to which another relocation has brought the database.
    const again = sfn.Pass.jsonata(this, 'Look at the host again', {
      assign: { source: jsonata('$request.source'), stopTried: false },
    });
    again.next(look);
    superseded.next(
      sfn.Choice.jsonata(this, 'A host to be left?')
        .when(sfn.Condition.jsonata(jsonata('$exists($request.source) and $not($planned)')), again)
        .otherwise(
          this.#standBack(
            'Superseded',
            { outcome: 'superseded', reason: '$moved.reason' },
            sfn.Succeed.jsonata(this, 'Superseded', { outputs: jsonata('$outcome') }),
          ),
        ),
    );
    move.next(
      sfn.Choice.jsonata(this, 'Moved?')
        .when(sfn.Condition.jsonata(jsonata("$moved.outcome = 'moved'")), this.#verify(look, move))
        .when(sfn.Condition.jsonata(jsonata(`$moved.outcome = 'again' and $again % ${TELL_WAITING_EVERY} = 0`)), tell)
        .when(sfn.Condition.jsonata(jsonata("$moved.outcome = 'again'")), move)
        .when(sfn.Condition.jsonata(jsonata("$moved.outcome = 'replace'")), replace)
        .when(
          sfn.Condition.jsonata(jsonata("$moved.outcome = 'called-off'")),
          this.#giveUp('The source does not let go', {
            Error: 'CalledOff',
            Cause: jsonata("$source & ' serves on, nothing has been changed; ' & $moved.reason"),
          }),
        )
        .otherwise(superseded),
    );
    return move;
  }

  #verify(look: sfn.State, move: sfn.State): sfn.State {
    // Back to Move, not to Verify: the host may be gone meanwhile, and Move sees that.
    const wait = sfn.Wait.jsonata(this, 'Wait before verifying again', {
      time: sfn.WaitTime.duration(Duration.seconds(2)),
    });
    wait.next(move);
    const leave = sfn.Pass.jsonata(this, 'Leave this host', {
      assign: {
        source: jsonata('$moved.host'),
        left: jsonata('$moved.host'),
        attempt: jsonata('$attempt + 1'),
        failedHosts: jsonata('$failedHosts + 1'),
        verifications: 0,
        unanswered: 0,
        asked: 0,
        report: { of: 'nobody', text: 'nothing' },
        verifyCommand: NEVER_ASKED,
        stopTried: false,
        troubles: trouble("$moved.host & ' did not serve: ' & $verifyCommand.status & ': ' & $verifyCommand.detail"),
      },
    });
    leave.next(look);
    const tellAndLeave = this.#tell('Tell people that a host does not serve', {
      subject: "'Keeper: ' & $moved.host & ' does not serve ' & $database.name",
      message:
        "'The database ' & $database.name & ' came to ' & $moved.host & ', which does not serve it: ' & $verifyCommand.status & ': ' & $verifyCommand.detail & '\\n\\nKeeper moves it on to another host.'",
      next: leave,
    });
    const unanswered = `$verifyCommand.status in ${JSON.stringify(UNANSWERED).replaceAll('"', "'")}`;
    const hopeless = [
      // The takeover itself has said that it failed: waiting does not mend it.
      "$contains($verifyCommand.detail, 'the takeover says')",
      // Systems Manager knows the host, and twice in a row it did not answer: its guest hangs.
      `(${unanswered} and $unanswered > 0)`,
      `$verifications >= ${MOST_VERIFICATIONS}`,
    ].join(' or ');
    const failed = sfn.Choice.jsonata(this, 'Verify again?')
      .when(sfn.Condition.jsonata(jsonata(`$not(${hopeless})`)), wait)
      .otherwise(this.#leaveOrGiveUp(tellAndLeave));
    const count = sfn.Pass.jsonata(this, 'Count the verification', {
      assign: {
        verifications: jsonata('$verifications + 1'),
        unanswered: jsonata(`${unanswered} ? $unanswered + 1 : 0`),
      },
    });
    count.next(
      runCommand(this, 'Verify', {
        documentName: this.#props.commands.verify.documentName,
        hostId: '$moved.host',
        parameters: { volumeId: '$database.volumeId', marker: "$execution & '.' & $attempt & '.' & $verifications" },
        comment: '$execution',
        executionSeconds: VERIFY_SECONDS,
        onSuccess: this.#finish(),
        onFailure: failed,
      }),
    );
    return this.#ask(count, wait, tellAndLeave);
  }

  /**
   * First the host itself is asked, which reports its takeover together with a write that it has read back: the agent,
   * without which there is no Verify, may come minutes later. What the host has not said after a while, Verify finds out.
   */
  #ask(verify: sfn.State, wait: sfn.State, leave: sfn.State): sfn.State {
    const ask = tasks.CallAwsService.jsonata(this, 'Ask the host', {
      service: 'ssm',
      action: 'getParameter',
      parameters: { Name: jsonata("'/keeper/' & $database.name & '/takeover'") },
      iamResources: ['*'],
      taskTimeout: sfn.Timeout.duration(Duration.seconds(30)),
      assign: {
        asked: jsonata('$asked + 1'),
        report: {
          // A host to which the database comes back has reported once before.
          of: jsonata(
            "$toMillis($states.result.Parameter.LastModifiedDate) < $lookedAt ? 'nobody' : $substringBefore($states.result.Parameter.Value, '\\n')",
          ),
          text: jsonata("$trim($substringAfter($states.result.Parameter.Value, '\\n'))"),
        },
      },
    });
    const failed = sfn.Pass.jsonata(this, 'The takeover failed', {
      assign: { verifyCommand: { ...NEVER_ASKED, status: 'TakeoverFailed', detail: jsonata('$report.text') } },
    });
    failed.next(this.#leaveOrGiveUp(leave));
    const says = sfn.Choice.jsonata(this, 'What does it say?')
      .when(sfn.Condition.jsonata(jsonata("$report.of = $moved.host & ' serves'")), this.#finish())
      .when(sfn.Condition.jsonata(jsonata("$report.of = $moved.host & ' failed'")), failed)
      .when(sfn.Condition.jsonata(jsonata(`$asked < ${MOST_QUESTIONS}`)), wait)
      .otherwise(verify);
    ask.next(says);
    // That the answer cannot be read says nothing of the host.
    ask.addCatch(says, { errors: ['States.ALL'], assign: { asked: jsonata('$asked + 1') } });
    return ask;
  }

  /** Another host takes over from one that does not serve, as long as that has not happened too often. */
  #leaveOrGiveUp(leave: sfn.State): sfn.Choice {
    this.#leaving ??= sfn.Choice.jsonata(this, 'Another host?')
      .when(sfn.Condition.jsonata(jsonata(`$failedHosts + 1 < ${MOST_FAILED_HOSTS}`)), leave)
      .otherwise(
        this.#giveUp('The database does not serve', {
          Error: 'VerificationFailed',
          Cause: jsonata(
            "$moved.host & ' has the volume and does not serve: ' & $verifyCommand.status & ': ' & $verifyCommand.detail",
          ),
        }),
      );
    return this.#leaving;
  }

  #finish(): sfn.State {
    if (this.#finished) return this.#finished;
    const retire = this.#retire('Retire the source', {
      sources: jsonata('$sources'),
      verified: jsonata('$moved.host'),
      record: jsonata(
        "$madeAs = 'wanted' ? ($exists($request.record) ? $request.record : $exists($request.host) ? $request.host : {}) : {}",
      ),
    });
    const result = {
      database: jsonata('$database.name'),
      outcome: 'relocated',
      reason: jsonata("$exists($request.reason) ? $request.reason : 'asked for'"),
      from: jsonata('[$sources[$ != $moved.host]]'),
      to: jsonata('$moved.host'),
      lifecycle: jsonata('$states.input.Payload.lifecycle'),
      instanceType: jsonata('$states.input.Payload.instanceType'),
      attempts: jsonata('$attempt'),
      checkpoint: jsonata('$checkpoint'),
      takeover: jsonata(
        "$report.of = $moved.host & ' serves' ? $split($report.text, '\\n') : $trim($verifyCommand.stdout)",
      ),
    };
    const relocated = sfn.Succeed.jsonata(this, 'Relocated', { outputs: jsonata('$result') });
    const publish = this.#tell('Publish', {
      subject: "'Keeper: ' & $database.name & ' is on ' & $moved.host",
      message: '$string($result, true)',
      next: relocated,
    });
    const summarise = sfn.Pass.jsonata(this, 'Summarise', { assign: { result } });
    const notAsPlanned = sfn.Pass.jsonata(this, 'Not as planned', {
      assign: {
        failure: {
          Error: jsonata("$madeAs = 'back' ? 'WentBack' : 'NotAsPlanned'"),
          Cause: jsonata(
            "'the database serves ' & ($madeAs = 'back' ? 'on ' & $moved.host & ' again' : 'on ' & $moved.host & ', which is made as before') & '; ' & $join($distinct($troubles), '; ')",
          ),
        },
      },
    });
    notAsPlanned.next(this.#tellOfFailure());
    retire.next(summarise);
    summarise.next(
      sfn.Choice.jsonata(this, 'As planned?')
        .when(sfn.Condition.jsonata(jsonata("$planned and $madeAs != 'wanted'")), notAsPlanned)
        .otherwise(publish),
    );
    this.#finished = retire;
    return retire;
  }

  /** Another relocation has done what was needed. That is a good end, unless somebody waits for this one's own result. */
  #standBack(id: string, { outcome, reason }: { outcome: string; reason: string }, end: sfn.State): sfn.State {
    const state = sfn.Pass.jsonata(this, `${id}: say so`, {
      assign: { outcome: { database: jsonata('$database.name'), outcome, reason: jsonata(reason) } },
    });
    const failed = this.#giveUp(`${id}, but it was planned`, {
      Error: 'Superseded',
      Cause: jsonata("$outcome.reason & '; this move is not needed or not possible any more: start it again if it is'"),
    });
    state.next(
      sfn.Choice.jsonata(this, `${id}: was it planned?`)
        .when(sfn.Condition.jsonata(jsonata('$planned')), failed)
        .otherwise(end),
    );
    return state;
  }

  #retire(
    id: string,
    input: { sources: string | string[]; verified: string; record: object | string },
  ): tasks.LambdaInvoke {
    return this.#invoke(id, 'retire', 40, {
      payload: { database: jsonata('$database'), execution: jsonata('$execution'), ...input },
    });
  }

  /** Ends in failure after putting things back: replacements that do not hold the volume go, people are told. */
  #failed(): sfn.State {
    if (this.#cleanUp) return this.#cleanUp;
    const tell = this.#tellOfFailure();
    const cleanUp = tasks.LambdaInvoke.jsonata(this, 'Clean up', {
      lambdaFunction: this.#props.functions.retire,
      payload: sfn.TaskInput.fromObject({
        database: jsonata('$database'),
        execution: jsonata('$execution'),
        ...NOBODY_PROVEN,
      }),
      retryOnServiceExceptions: false,
      taskTimeout: sfn.Timeout.duration(Duration.seconds(40)),
    });
    cleanUp.addRetry({ errors: ['States.ALL'], interval: Duration.seconds(2), maxAttempts: 5, backoffRate: 2 });
    cleanUp.addCatch(tell, { errors: ['States.ALL'] });
    cleanUp.next(tell);
    this.#cleanUp = cleanUp;
    return cleanUp;
  }

  #tellOfFailure(): sfn.State {
    this.#told ??= this.#tell('Tell people that it failed', {
      subject: "'Keeper: the relocation of ' & $request.database & ' failed'",
      message:
        "'The relocation ' & $execution & ' failed: ' & $failure.Error & ': ' & $failure.Cause & ($planned ? '' : '\\n\\nIts volume is untouched. If no host serves, Keeper tries again by itself; if this mail comes again, somebody has to look.')",
      next: sfn.Fail.jsonata(this, 'Failed', { error: jsonata('$failure.Error'), cause: jsonata('$failure.Cause') }),
    });
    return this.#told;
  }

  #giveUp(id: string, failure: { Error: string; Cause: string }): sfn.State {
    const state = sfn.Pass.jsonata(this, id, { assign: { failure } });
    state.next(this.#failed());
    return state;
  }

  #tell(id: string, props: Omit<TellProps, 'topic'>): sfn.State {
    return tell(this, id, { topic: this.#props.topic, ...props });
  }

  /** A function of which every call is idempotent, so that whatever interrupts it is followed by another try. */
  #invoke(
    id: string,
    name: keyof RelocateProps['functions'],
    timeoutSeconds: number,
    props: { payload: Record<string, unknown>; assign?: Record<string, unknown> },
  ): tasks.LambdaInvoke {
    const task = tasks.LambdaInvoke.jsonata(this, id, {
      lambdaFunction: this.#props.functions[name],
      payload: sfn.TaskInput.fromObject(props.payload),
      retryOnServiceExceptions: false,
      taskTimeout: sfn.Timeout.duration(Duration.seconds(timeoutSeconds)),
      ...(props.assign && { assign: props.assign }),
    });
    task.addRetry({ errors: PERMANENT_ERRORS, maxAttempts: 0 });
    task.addRetry({
      errors: ['States.ALL'],
      interval: Duration.seconds(1),
      backoffRate: 1.5,
      maxDelay: Duration.seconds(10),
      maxAttempts: 30,
    });
    return this.#catchAll(task);
  }

  #catchAll<T extends { addCatch(handler: sfn.IChainable, props: sfn.CatchProps): unknown }>(state: T): T {
    return catchAll(state, this.#failed());
  }

  #policies(role: iam.IRole): iam.Policy[] {
    const { functions, commands, topic, databases } = this.#props;
    const can = new Capabilities(Stack.of(this), Object.keys(databases));
    const capabilities: Record<string, readonly Permission[]> = {
      'invoke-functions': [
        { actions: ['lambda:InvokeFunction'], resources: Object.values(functions).map((f) => f.functionArn) },
      ],
      'read-parameters': can.readParameters('volume-id', 'takeover'),
      'run-commands': can.runCommands(Object.values(commands).map((each) => each.arn)),
      'tell-people': [{ actions: ['sns:Publish'], resources: [topic.topicArn] }],
    };
    return Object.entries(capabilities).map(([capability, permissions]) => grant(this, capability, role, permissions));
  }
}
