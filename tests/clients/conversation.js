// What two clients say to one another through the broker, with MQTT.js, in Node and in a page.
//
// conversation.js URL VERSION [CA-FILE]: ends with 0 and prints what was shown.

"use strict";

async function conversation(mqtt, url, version, more) {
  const shown = [];
  const unique = Math.random().toString(36).slice(2);
  const protocol = version === 3
    ? { protocolId: "MQIsdp", protocolVersion: 3 }
    : { protocolVersion: version };
  const options = (name) => ({
    ...protocol,
    ...more,
    clientId: `${name}-${unique}`,
    reconnectPeriod: 0,
    connectTimeout: 20000,
  });

  async function connect(name, extra) {
    const client = await mqtt.connectAsync(url, { ...options(name), ...extra }, false);
    client.inbox = [];
    client.on("message", (topic, payload, packet) =>
      client.inbox.push({ topic, text: payload.toString(), qos: packet.qos, retain: packet.retain }));
    return client;
  }

  async function until(what, holds) {
    const end = Date.now() + 20000;
    while (!holds()) {
      if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  function equal(what, found, expected) {
    if (JSON.stringify(found) !== JSON.stringify(expected)) {
      throw new Error(`${what}: ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`);
    }
  }

  const alice = await connect("alice");
  const bob = await connect("bob");
  shown.push("connect");

  await bob.subscribeAsync(`t/${unique}/#`, { qos: 2 });
  for (const qos of [0, 1, 2]) await alice.publishAsync(`t/${unique}/${qos}`, `q${qos}`, { qos });
  await until("every QoS", () => bob.inbox.length >= 3);
  equal("every QoS", bob.inbox.map((m) => [m.text, m.qos]), [["q0", 0], ["q1", 1], ["q2", 2]]);
  shown.push("qos");

  bob.inbox = [];
  await alice.publishAsync(`r/${unique}`, "kept", { qos: 1, retain: true });
  await bob.subscribeAsync(`r/${unique}`, { qos: 1 });
  await until("a retained message", () => bob.inbox.length >= 1);
  equal("a retained message", [bob.inbox[0].text, bob.inbox[0].retain], ["kept", true]);
  await alice.publishAsync(`r/${unique}`, "", { qos: 1, retain: true });
  shown.push("retained");

  bob.inbox = [];
  await bob.subscribeAsync(`w/${unique}`, { qos: 1 });
  const mortal = await connect("mortal", { will: { topic: `w/${unique}`, payload: "gone", qos: 1 } });
  // Without DISCONNECT.
  mortal.end(true);
  await until("a will", () => bob.inbox.some((m) => m.text === "gone"));
  shown.push("will");

  const members = [await connect("one"), await connect("two")];
  for (const member of members) await member.subscribeAsync(`$share/g/s/${unique}`, { qos: 1 });
  for (let n = 0; n < 20; n++) await alice.publishAsync(`s/${unique}`, `${n}`, { qos: 1 });
  await until("a shared subscription", () => members[0].inbox.length + members[1].inbox.length >= 20);
  const all = members.flatMap((member) => member.inbox.map((m) => Number(m.text)));
  equal("a shared subscription", all.sort((a, b) => a - b), [...Array(20).keys()]);
  shown.push("shared");

  bob.inbox = [];
  const large = "x".repeat(300000);
  await alice.publishAsync(`t/${unique}/large`, large, { qos: 2 });
  await until("a large payload", () => bob.inbox.length >= 1);
  equal("a large payload", bob.inbox[0].text === large, true);
  shown.push("large");

  for (const client of [alice, bob, ...members]) await client.endAsync();
  return shown.join(" ");
}

if (typeof module !== "undefined" && require.main === module) {
  const [url, version, ca] = process.argv.slice(2);
  const more = ca ? { ca: require("fs").readFileSync(ca) } : {};
  conversation(require("mqtt"), url, Number(version), more).then(
    (shown) => { console.log(shown); process.exit(0); },
    (error) => { console.error(error); process.exit(1); },
  );
}
