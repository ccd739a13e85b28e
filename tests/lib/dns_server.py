"""A name server that answers badly, for tests/engine/dns_test.lua: by the name's
first label. dns_server.py ADDRESS: UDP and TCP on port 53; prints "ready"."""
import socketserver
import struct
import sys
import threading


def name_of(question):
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]])
        at += 1 + question[at]
    return labels, question[12:at + 5], struct.unpack(">H", question[at + 1:at + 3])[0]


def record(kind, data, ttl=60):
    return b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def answer(q, tcp):
    labels, question, kind = name_of(q)
    what = labels[0].decode()
    flags, records = 0x8180, []
    if what == "huge" and kind == 1:
        # More than fits in a datagram: 4,000 addresses.
        if not tcp:
            flags |= 0x0200
        else:
            records = [record(1, bytes([127, 77, 30, 1]))] * 4000
    elif what == "loop":
        records = [record(5, b"\xc0\x0c")]
    elif what == "pointer":
        # A name that points at itself.
        at = 12 + len(question)
        records = [struct.pack(">HHHIH", 0xC000 | at, kind, 1, 60, 4) + b"\x7f\x4d\x1e\x01"]
    elif what == "wrong" and kind == 1:
        records = [record(1, b"\x01\x02")]
    elif what == "good" and kind == 1:
        records = [record(1, bytes([127, 77, 30, 1]))]
    elif what == "garbage":
        return q[:2] + b"\xff" * 40
    elif what == "silent":
        return None
    return q[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(records)


class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        out = answer(data, False)
        if out:
            sock.sendto(out, self.client_address)


class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        while len(n := self.rfile.read(2)) == 2:
            out = answer(self.rfile.read(struct.unpack(">H", n)[0]), True)
            if out:
                self.wfile.write(struct.pack(">H", len(out)) + out)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


where = (sys.argv[1], 53)
udp = socketserver.ThreadingUDPServer(where, Udp)
threading.Thread(target=udp.serve_forever, daemon=True).start()
tcp = Server(where, Tcp)
print("ready", flush=True)
tcp.serve_forever()
