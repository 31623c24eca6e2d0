"""Publishes numbered messages with MQTT 5 and QoS 1; prints what the broker answered to each.

paho_load.py PORT TOPIC COUNT prints {"accepted": [n, ...], "refused": {"Quota exceeded": [n, ...]}}.
"""

import json
import sys
import threading

import paho.mqtt.client as mqtt

TIMEOUT_S = 60

port, topic, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])

connected = threading.Event()
answered = threading.Event()
answers = {}


def on_connect(client, userdata, flags, reason_code, properties):
    connected.set()


def on_publish(client, userdata, mid, reason_code, properties):
    answers[mid] = reason_code
    if len(answers) == count:
        answered.set()


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id="paho-load", protocol=mqtt.MQTTv5
)
client.on_connect = on_connect
client.on_publish = on_publish
client.connect("127.0.0.1", port)
client.loop_start()
if not connected.wait(TIMEOUT_S):
    sys.exit("not connected in time")
numbers = {}
for n in range(count):
    message = client.publish(topic, json.dumps({"p": 0, "n": n}), qos=1)
    numbers[message.mid] = n
if not answered.wait(TIMEOUT_S):
    sys.exit(f"{len(answers)} of {count} messages were answered in time")
client.disconnect()
client.loop_stop()

accepted, refused = [], {}
for mid, reason in answers.items():
    if reason.is_failure:
        refused.setdefault(str(reason), []).append(numbers[mid])
    else:
        accepted.append(numbers[mid])
print(json.dumps({"accepted": accepted, "refused": refused}))
