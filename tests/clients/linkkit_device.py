"""A device with Aliyun's own SDK: posts properties until it has been told that they came, changes one when it is told
to, and says what it has seen. The SDK is unchanged but for the address and for whose turn it is on TLS."""

import json
import ssl
import sys
import threading

from linkkit import linkkit


def one_at_a_time(call, lock):
    def locked(*args, **kwargs):
        with lock:
            return call(*args, **kwargs)

    return locked


# The SDK's threads use one TLS connection at once, which Python allows since 3.13. Before, a write can spoil another:
# the SDK then connects anew and posts again.
tls = threading.RLock()
ssl.SSLSocket.send = one_at_a_time(ssl.SSLSocket.send, tls)
ssl.SSLSocket.recv = one_at_a_time(ssl.SSLSocket.recv, tls)

port, product_key, device_name, device_secret, model = sys.argv[1:6]
ca = open(sys.argv[6]).read() if len(sys.argv) > 6 else None

enabled, replied, changed = threading.Event(), threading.Event(), threading.Event()
seen = {}

device = linkkit.LinkKit(
    host_name="cn-shanghai",
    product_key=product_key,
    device_name=device_name,
    device_secret=device_secret,
)
device.config_mqtt(
    port=int(port),
    endpoint="localhost" if ca else "127.0.0.1",
    secure="TLS" if ca else "",
    cadata=ca,
)
device.thing_setup(model)


def on_connect(session_flag, rc, userdata):
    seen.setdefault("connects", []).append(rc)
    if rc != 0:
        enabled.set()


def on_thing_enable(userdata):
    enabled.set()


def on_thing_prop_post(request_id, code, data, message, userdata):
    seen.setdefault("replies", []).append([request_id, code])
    if len(seen["replies"]) == 3:
        replied.set()


def on_thing_prop_changed(params, userdata):
    seen["changed"] = params
    changed.set()


device.on_connect = on_connect
device.on_thing_enable = on_thing_enable
device.on_thing_prop_post = on_thing_prop_post
device.on_thing_prop_changed = on_thing_prop_changed

device.connect_async()
if not enabled.wait(30) or seen.get("connects") != [0]:
    sys.exit(f"not connected: {seen}")
for step in range(3):
    rc, _ = device.thing_post_property({"temp": 20.5 + step, "hum": 40 + step})
    if rc != 0:
        sys.exit(f"a property was not posted: {rc}")
if not replied.wait(30) or not changed.wait(30):
    sys.exit(f"no answer: {seen}")
device.disconnect()
print(json.dumps(seen))
