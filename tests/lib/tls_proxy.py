"""TLS in front of a plain TCP server: tls_proxy.py CERT KEY TARGET_PORT FILE.
Writes its own port to FILE; ends when its standard input does."""
import os
import socket
import ssl
import sys
import threading


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for s in (source, target):
            s.close()


def serve(context, plain, port):
    try:
        secure = context.wrap_socket(plain, server_side=True)
        back = socket.create_connection(("127.0.0.1", port))
    except OSError:
        plain.close()
        return
    threading.Thread(target=pump, args=(back, secure), daemon=True).start()
    pump(secure, back)


def main():
    cert, key, port, path = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    with open(path + ".new", "w") as f:
        f.write(str(listener.getsockname()[1]))
    os.rename(path + ".new", path)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=serve, args=(context, plain, int(port)), daemon=True).start()


main()
