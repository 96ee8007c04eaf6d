// Uses the vendor's own client, unmodified, against the simulator at SIMULATOR. The
// client has no setting for an address, but takes a fetch.
import assert from 'node:assert/strict';
import { Sandbox, Snapshot } from '@vercel/sandbox';

const base = process.env.SIMULATOR;
const options = {
  token: process.env.TOKEN, teamId: process.env.TEAM, projectId: process.env.PROJECT,
  fetch: (input, { dispatcher, ...init } = {}) => {
    const url = new URL(String(input));
    return fetch(base + url.pathname + url.search, init);
  },
};
const admin = async (path, body) => {
  const response = await fetch(`${base}/_simulator/${path}`, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(response.status, 200, await response.text());
};
const said = (what) => console.log(`ok ${what}`);

const create = { ...options, networkPolicy: 'deny-all', timeout: 600_000 };
await admin('faults', { path: '/v3/sandboxes', kind: 'status', status: 429, retryAfter: 1 });
const box = await Sandbox.create({ ...create, name: 'official', tags: { team: 'suite' }, ports: [3000], env: { FROM: 'sandbox' } });
assert.equal(box.name, 'official');
assert.equal(box.status, 'running');
assert.equal(box.persistent, true);
assert.match(box.domain(3000), /^https:\/\/official-3000\./);
said('create, through a rate limit');

const ran = await box.runCommand({ cmd: 'sh', args: ['-c', 'echo "$FROM $OWN"; echo err >&2; exit 7'], env: { OWN: 'command' } });
assert.equal(ran.exitCode, 7);
assert.equal(await ran.stdout(), 'sandbox command\n');
assert.equal(await ran.stderr(), 'err\n');
said('run');

const detached = await box.runCommand({ cmd: 'sh', args: ['-c', 'echo started; sleep 600'], detached: true });
for await (const line of detached.logs()) {
  assert.equal(line.data, 'started\n');
  break;
}
await detached.kill('SIGTERM');
assert.equal((await detached.wait()).exitCode, 143);
said('detached, logs, kill, wait');

await box.writeFiles([{ path: 'a/b.txt', content: Buffer.from('written\n') }, { path: '/tmp/run.sh', content: '#!/bin/sh\necho ran\n', mode: 0o755 }]);
assert.equal((await box.readFileToBuffer({ path: 'a/b.txt' })).toString(), 'written\n');
assert.equal(await (await box.runCommand('/tmp/run.sh')).stdout(), 'ran\n');
assert.equal(await box.readFileToBuffer({ path: 'missing' }), null);
await box.mkDir('made');
said('files');

const end = box.expiresAt.getTime();
await box.extendTimeout(60_000);
assert.equal(box.expiresAt.getTime(), end + 60_000);
await box.updateNetworkPolicy('deny-all');
said('extend, policy');

await box.stop();
const resumed = await box.runCommand('cat', ['a/b.txt']);
assert.equal(await resumed.stdout(), 'written\n');
said('stop, resume');

const snapshot = await box.snapshot({ expiration: 0 });
const restored = await Sandbox.create({ ...create, name: 'restored', source: { type: 'snapshot', snapshotId: snapshot.snapshotId } });
assert.equal(await (await restored.runCommand('cat', ['a/b.txt'])).stdout(), 'written\n');
assert.equal((await Snapshot.get({ ...options, snapshotId: snapshot.snapshotId })).status, 'created');
await snapshot.delete();
said('snapshot, restore');

const listed = await Sandbox.list({ ...options, tags: { team: 'suite' } });
assert.deepEqual(listed.sandboxes.map((sandbox) => sandbox.name), ['official']);
await assert.rejects(Sandbox.create({ ...create, name: 'official' }), /409|already exists/);
await assert.rejects(Sandbox.create({ ...create, token: 'wrong' }), /403|Not authorized/);
for (const sandbox of [box, restored]) await sandbox.delete();
await assert.rejects(Sandbox.get({ ...options, name: 'official' }), /404|not found/i);
said('list, refusals, delete');
