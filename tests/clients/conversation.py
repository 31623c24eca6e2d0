"""What two clients say to one another through the broker, with paho-mqtt; prints what was shown.

conversation.py TRANSPORT PORT VERSION [CA-FILE]
"""

import sys
import threading
import uuid

import paho.mqtt.client as mqtt

VERSIONS = {"3": mqtt.MQTTv31, "4": mqtt.MQTTv311, "5": mqtt.MQTTv5}
TIMEOUT_S = 20

transport, port, version, *ca = sys.argv[1:]
unique = uuid.uuid4().hex[:12]


class Client:
    """A client whose every step is waited for."""

    def __init__(self, name, will=None):
        self.changed = threading.Condition()
        self.inbox = []
        self.up = False
        self.granted = 0
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=f"{name}-{unique}"[:23],
            protocol=VERSIONS[version],
            transport=transport,
        )
        if ca:
            self.client.tls_set(ca_certs=ca[0])
        if transport == "websockets":
            self.client.ws_set_options(path="/mqtt")
        if will:
            self.client.will_set(will, "gone", qos=1)
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = self.on_subscribe
        self.client.on_message = self.on_message
        self.client.connect("localhost" if ca else "127.0.0.1", int(port))
        self.client.loop_start()
        self.until("CONNACK", lambda: self.up)

    def on_connect(self, client, userdata, flags, reason, properties):
        with self.changed:
            self.up = not reason.is_failure
            self.changed.notify()

    def on_subscribe(self, client, userdata, mid, reasons, properties):
        with self.changed:
            self.granted += 1
            self.changed.notify()

    def on_message(self, client, userdata, message):
        with self.changed:
            self.inbox.append(message)
            self.changed.notify()

    def until(self, what, holds):
        with self.changed:
            if not self.changed.wait_for(holds, TIMEOUT_S):
                sys.exit(f"waited in vain: {what}")

    def subscribe(self, topic, qos):
        before = self.granted
        self.client.subscribe(topic, qos)
        self.until("SUBACK", lambda: self.granted > before)

    def publish(self, topic, payload, qos, retain=False):
        message = self.client.publish(topic, payload, qos, retain)
        message.wait_for_publish(TIMEOUT_S)
        if not message.is_published():
            sys.exit(f"not acknowledged: {topic}")

    def expect(self, what, count):
        self.until(what, lambda: len(self.inbox) >= count)
        found, self.inbox = self.inbox, []
        return found

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()


alice, bob = Client("alice"), Client("bob")
shown = ["connect"]

bob.subscribe(f"t/{unique}/#", 2)
for qos in (0, 1, 2):
    alice.publish(f"t/{unique}/{qos}", f"q{qos}", qos)
found = [(m.payload, m.qos) for m in bob.expect("every QoS", 3)]
assert found == [(b"q0", 0), (b"q1", 1), (b"q2", 2)], found
shown.append("qos")

alice.publish(f"r/{unique}", "kept", 1, retain=True)
bob.subscribe(f"r/{unique}", 1)
(kept,) = bob.expect("a retained message", 1)
assert (kept.payload, kept.retain) == (b"kept", True), kept
alice.publish(f"r/{unique}", "", 1, retain=True)
bob.expect("its end", 1)
shown.append("retained")

bob.subscribe(f"w/{unique}", 1)
mortal = Client("mortal", will=f"w/{unique}")
# Without DISCONNECT.
mortal.client.loop_stop()
mortal.client.socket().close()
(gone,) = bob.expect("a will", 1)
assert gone.payload == b"gone", gone.payload
shown.append("will")

members = [Client("one"), Client("two")]
for member in members:
    member.subscribe(f"$share/g/s/{unique}", 1)
for n in range(20):
    alice.publish(f"s/{unique}", str(n), 1)
for member in members:
    total = lambda: sum(len(member.inbox) for member in members)
    member.until("a shared subscription", lambda: member.inbox)
bob.inbox = []
deadline = threading.Event()
for _ in range(200):
    if total() >= 20:
        break
    deadline.wait(0.05)
numbers = sorted(int(m.payload) for member in members for m in member.inbox)
assert numbers == list(range(20)), numbers
shown.append("shared")

large = b"x" * 300_000
alice.publish(f"t/{unique}/large", large, 2)
(came,) = bob.expect("a large payload", 1)
assert came.payload == large
shown.append("large")

for client in (alice, bob, *members):
    client.end()
print(" ".join(shown))
