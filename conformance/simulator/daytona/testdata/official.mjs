// Uses the vendor's own client, unmodified, against the simulator at SIMULATOR.
import assert from 'node:assert/strict';
import { Daytona } from '@daytona/sdk';

const base = process.env.SIMULATOR;
const admin = async (path, body) => {
  const response = await fetch(`${base}/_simulator/${path}`, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(response.status, 200, await response.text());
};
const said = (what) => console.log(`ok ${what}`);
const options = { apiKey: process.env.KEY, apiUrl: `${base}/api`, useDeprecatedPolling: true };
const daytona = new Daytona(options);

const create = { networkBlockAll: true, autoStopInterval: 0 };
const box = await daytona.create({ ...create, name: 'official', labels: { team: 'suite' }, envVars: { FROM: 'sandbox' } });
assert.equal(box.state, 'started');
assert.equal((await daytona.get('official')).id, box.id);
said('create, get');

const ran = await box.process.executeCommand('echo "$FROM $OWN"; echo err >&2; exit 7', undefined, { OWN: 'command' });
assert.equal(ran.exitCode, 7);
assert.equal(ran.result, 'sandbox command\nerr\n');
await assert.rejects(box.process.executeCommand('sleep 600', undefined, undefined, 1), /timeout/i);
said('execute');

await box.process.createSession('s');
const done = await box.process.executeSessionCommand('s', { command: 'echo out; echo err >&2; exit 3' });
assert.deepEqual([done.exitCode, done.stdout, done.stderr], [3, 'out\n', 'err\n']);
const { cmdId } = await box.process.executeSessionCommand('s', { command: 'echo one; sleep 0.2; echo two >&2', runAsync: true });
const heard = { out: '', err: '' };
await box.process.getSessionCommandLogs('s', cmdId, (text) => { heard.out += text; }, (text) => { heard.err += text; });
assert.deepEqual(heard, { out: 'one\n', err: 'two\n' });
assert.equal((await box.process.getSessionCommand('s', cmdId)).exitCode, 0);
await box.process.deleteSession('s');
said('sessions, logs');

await box.fs.uploadFile(Buffer.from('written\n'), 'a/b.txt');
assert.equal((await box.fs.downloadFile('a/b.txt')).toString(), 'written\n');
await assert.rejects(box.fs.downloadFile('missing'));
await box.fs.createFolder('made', '755');
said('files');

await box.stop();
assert.equal(box.state, 'stopped');
await box.start();
assert.equal((await box.process.executeCommand('cat a/b.txt')).result, 'written\n');
said('stop, start');

await assert.rejects(daytona.create({ ...create, name: 'official' }), /already exists/);
await assert.rejects(new Daytona({ ...options, apiKey: 'wrong' }).get('official'), /Unauthorized/);
await admin('faults', { path: '/sandbox', method: 'POST', kind: 'status', status: 429, retryAfter: 1 });
await assert.rejects(daytona.create(create), /Too Many Requests/);
said('refusals');

await box.delete();
await assert.rejects(daytona.get('official'), /not found/);
said('delete');
process.exit(0); // the client keeps connections
