"""Publishes messages with paho-mqtt; ends with 0 when the broker has acknowledged all of them.

paho_publish.py PORT VERSION QOS TOPIC PAYLOAD...
"""

import sys
import threading

import paho.mqtt.client as mqtt

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}
TIMEOUT_S = 15

port, version, qos, topic, *payloads = sys.argv[1:]

connected = threading.Event()


def on_connect(client, userdata, flags, reason_code, properties):
    if reason_code.is_failure:
        sys.stderr.write(f"refused: {reason_code}\n")
    else:
        connected.set()


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id=f"paho-{version}-{qos}",
    protocol=VERSIONS[version],
)
client.on_connect = on_connect
client.connect("127.0.0.1", int(port))
client.loop_start()
if not connected.wait(TIMEOUT_S):
    sys.exit("not connected in time")
for payload in payloads:
    message = client.publish(topic, payload, qos=int(qos))
    message.wait_for_publish(TIMEOUT_S)
    if not message.is_published():
        sys.exit("not acknowledged in time")
client.disconnect()
client.loop_stop()
