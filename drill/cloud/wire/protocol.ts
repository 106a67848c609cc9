import { AwsError, NotModelled, type Shape } from '../kernel.ts';
import { decodeJson, encodeJson, parseJsonObject } from './json.ts';
import { decodeForm, ec2MemberKey, parseForm, type QueryDialect, queryMemberKey } from './query.ts';
import { type OperationSchema, readError, readOperation } from './schema.ts';
import { encodeXmlMembers, escapeXml } from './xml.ts';

/** An HTTP request to AWS, its header names in lower case. */
export interface WireRequest {
  readonly method: string;
  /** with the query string */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

export interface WireResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
}

/** One of AWS's wire protocols, for one service's client of the SDK. */
export interface Protocol {
  /** @throws NotModelled when the schema lacks the operation or a member; AwsError when the request is wrong */
  decode(request: WireRequest): { readonly operation: OperationSchema; readonly input: Shape };
  encode(operation: OperationSchema, output: Shape, requestId: string): WireResponse;
  encodeError(error: AwsError, requestId: string): WireResponse;
}

export const text = (body: Uint8Array): string => Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString();

const EC2_DIALECT: QueryDialect = {
  memberKey: ec2MemberKey,
  flattensLists: true,
  missing: (name) => new AwsError('MissingParameter', `The request must contain the parameter ${name}`),
};

const QUERY_DIALECT: QueryDialect = {
  memberKey: queryMemberKey,
  flattensLists: false,
  missing: (name) => new AwsError('ValidationError', `The request must contain the parameter ${name}`),
};

function decodeQuery(client: Shape, request: WireRequest, dialect: QueryDialect) {
  const { action, parameters } = parseForm(text(request.body));
  const operation = readOperation(client, action);
  const input = operation.input ? decodeForm(operation.input, parameters, dialect) : {};
  return { operation, input };
}

const XML_HEADERS = { 'content-type': 'text/xml;charset=UTF-8' };

/** EC2: parameters as a form, answers as XML. */
export function ec2Query(client: Shape, xmlNamespace: string): Protocol {
  return {
    decode: (request) => decodeQuery(client, request, EC2_DIALECT),
    encode({ name, output: schema }, output, requestId) {
      const members = schema ? encodeXmlMembers(schema, output) : '<return>true</return>';
      return {
        status: 200,
        headers: { ...XML_HEADERS, 'x-amzn-requestid': requestId },
        body: `<${name}Response xmlns="${xmlNamespace}"><requestId>${requestId}</requestId>${members}</${name}Response>`,
      };
    },
    encodeError: ({ code, message, status }, requestId) => ({
      status,
      headers: XML_HEADERS,
      body: `<Response><Errors><Error><Code>${escapeXml(code)}</Code><Message>${escapeXml(message)}</Message></Error></Errors><RequestID>${requestId}</RequestID></Response>`,
    }),
  };
}

/** SNS and its generation: parameters as a form, answers as XML in a result element. */
export function awsQuery(client: Shape, xmlNamespace: string): Protocol {
  return {
    decode: (request) => decodeQuery(client, request, QUERY_DIALECT),
    encode({ name, output: schema }, output, requestId) {
      const result = schema ? `<${name}Result>${encodeXmlMembers(schema, output)}</${name}Result>` : '';
      return {
        status: 200,
        headers: { ...XML_HEADERS, 'x-amzn-requestid': requestId },
        body: `<${name}Response xmlns="${xmlNamespace}">${result}<ResponseMetadata><RequestId>${requestId}</RequestId></ResponseMetadata></${name}Response>`,
      };
    },
    encodeError({ code, message, status }, requestId) {
      // On the wire some errors have a shorter code than the name that the SDK gives them (NotFound, NotFoundException).
      const wireCode: string = readError(client, code)?.traits.awsQueryError?.[0] ?? code;
      const type = status < 500 ? 'Sender' : 'Receiver';
      return {
        status,
        headers: XML_HEADERS,
        body: `<ErrorResponse xmlns="${xmlNamespace}"><Error><Type>${type}</Type><Code>${escapeXml(wireCode)}</Code><Message>${escapeXml(message)}</Message></Error><RequestId>${requestId}</RequestId></ErrorResponse>`,
      };
    },
  };
}

function jsonError({ code, message, status }: AwsError, requestId: string, contentType: string): WireResponse {
  return {
    status,
    headers: { 'content-type': contentType, 'x-amzn-errortype': code, 'x-amzn-requestid': requestId },
    body: JSON.stringify({ __type: code, message }),
  };
}

/** Systems Manager (1.1), Step Functions (1.0): the operation in a header, JSON both ways. */
export function awsJson(client: Shape, version: '1.0' | '1.1'): Protocol {
  const contentType = `application/x-amz-json-${version}`;
  return {
    decode(request) {
      const operation = readOperation(client, request.headers['x-amz-target']?.split('.').at(-1) ?? '');
      const body = parseJsonObject(text(request.body));
      return { operation, input: operation.input ? decodeJson(operation.input, body, operation.input.name) : {} };
    },
    encode: ({ output: schema }, output, requestId) => ({
      status: 200,
      headers: { 'content-type': contentType, 'x-amzn-requestid': requestId },
      body: JSON.stringify(schema ? encodeJson(schema, output, schema.name) : {}),
    }),
    encodeError: (error, requestId) => jsonError(error, requestId, contentType),
  };
}

/** Lambda's Invoke: members in the path, in headers and as the whole body. */
export function restJson(client: Shape): Protocol {
  const routes = readRoutes(client);
  return {
    decode(request) {
      const [path = '', query = ''] = request.path.split('?');
      for (const { method, pattern, name } of routes) {
        const labels = method === request.method ? pattern.exec(path)?.groups : undefined;
        if (!labels) continue;
        const operation = readOperation(client, name);
        return { operation, input: decodeBindings(operation, labels, new URLSearchParams(query), request) };
      }
      throw new NotModelled(`the AWS SDK has no operation for ${request.method} ${path}`);
    },
    encode: (operation, output, requestId) => encodeBindings(operation, output, requestId),
    encodeError: (error, requestId) => jsonError(error, requestId, 'application/json'),
  };
}

interface Route {
  readonly method: string;
  readonly pattern: RegExp;
  readonly name: string;
}

function readRoutes(client: Shape): Route[] {
  return Object.entries<Shape>(client).flatMap(([name, schema]) => {
    const http = Array.isArray(schema) && schema[0] === 9 && schema[3]?.http;
    if (!http) return [];
    const [template = ''] = http[1].split('?');
    const pattern = new RegExp(`^${template.replace(/\{(\w+)\+?\}/g, '(?<$1>[^/]+)')}/?$`);
    return [{ method: http[0], pattern, name: name.slice(0, -1) }];
  });
}

function decodeBindings(
  operation: OperationSchema,
  labels: Readonly<Record<string, string>>,
  query: URLSearchParams,
  request: WireRequest,
): Shape {
  const input: Shape = {};
  for (const member of operation.input?.members.values() ?? []) {
    const { httpLabel, httpHeader, httpQuery, httpPayload } = member.traits;
    if (httpPayload && member.type.kind === 'blob') {
      if (request.body.byteLength > 0) input[member.name] = request.body;
      continue;
    }
    const value = httpLabel
      ? decodeURIComponent(labels[member.name] ?? '')
      : httpHeader
        ? request.headers[httpHeader.toLowerCase()]
        : httpQuery
          ? (query.get(httpQuery) ?? undefined)
          : undefined;
    if (!httpLabel && !httpHeader && !httpQuery) {
      throw new NotModelled(`${operation.name}: the wire layer does not model ${member.name}, a member of a JSON body`);
    }
    if (value === undefined) continue;
    if (member.type.kind !== 'string')
      throw new NotModelled(`${operation.name}: ${member.name} as ${member.type.kind}`);
    input[member.name] = value;
  }
  return input;
}

function encodeBindings(operation: OperationSchema, output: Shape, requestId: string): WireResponse {
  const headers: Record<string, string> = { 'content-type': 'application/json', 'x-amzn-requestid': requestId };
  let status: number = operation.traits.http[2];
  let body: Uint8Array = new Uint8Array();
  for (const [name, value] of Object.entries<Shape>(output)) {
    const member = operation.output?.members.get(name);
    if (member?.traits.httpResponseCode) status = value;
    else if (member?.traits.httpPayload) body = value;
    else if (member?.traits.httpHeader) headers[member.traits.httpHeader.toLowerCase()] = String(value);
    else throw new NotModelled(`${operation.name}: the wire layer does not model ${name} in the answer`);
  }
  return { status, headers, body };
}
