"""Certificates for servers of tests, and the one key to all of them: signed by itself, known to nobody else. Pure."""

import ssl
from pathlib import Path

# Without its first and last line, so that nobody who looks for lost keys has to look at this one.
_KEY = """
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgwtVO30m0t7fTBwDS
21vD3HTzIeNX4ExyPmmVEuhqdN2hRANCAASftCDCIuYzDnH1ls9INSS5qWNC/pkx
taNS4AxbZQlMC8NB/rSWRJpt634aRi9w6SJL1LJM/ZW9jb0emhm1VBfs
"""

GOOD = """
MIIBcDCCARagAwIBAgIUZnH1YxquwBlXhmeA5fH7B0pKofwwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0wMDAxMDEwMDAwMDBaGA8yMDk5MTIzMTAwMDAw
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJ+0
IMIi5jMOcfWWz0g1JLmpY0L+mTG1o1LgDFtlCUwLw0H+tJZEmm3rfhpGL3DpIkvU
skz9lb2NvR6aGbVUF+yjTjBMMA8GA1UdEwEB/wQFMAMBAf8wGgYDVR0RBBMwEYIJ
bG9jYWxob3N0hwR/AAABMB0GA1UdDgQWBBRCTcoFw5s//V4bBn/Hz792GhRUHTAK
BggqhkjOPQQDAgNIADBFAiBrycFPDrJXvgytMz60n4bjgZyWniYGG9303svYqoUY
ngIhAP2TBXERpAKF/6l52lcTzs6YJL8p4mdcBovuc3ksi95k
"""

EXPIRED = """
MIIBbzCCARSgAwIBAgIUAuT5xtvUmBmmvvrTq5cMNQxkmg4wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAeFw0wMDAxMDEwMDAwMDBaFw0wMTAxMDEwMDAwMDBa
MA8xDTALBgNVBAMMBHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASftCDC
IuYzDnH1ls9INSS5qWNC/pkxtaNS4AxbZQlMC8NB/rSWRJpt634aRi9w6SJL1LJM
/ZW9jb0emhm1VBfso04wTDAPBgNVHRMBAf8EBTADAQH/MBoGA1UdEQQTMBGCCWxv
Y2FsaG9zdIcEfwAAATAdBgNVHQ4EFgQUQk3KBcObP/1eGwZ/x8+/dhoUVB0wCgYI
KoZIzj0EAwIDSQAwRgIhAKPZ9KixSFakjnZRSHgNEy5ZRpOluq1SjcLWeDzmKFch
AiEA+XxrGpw6ZsOCZa6GA8l3pbtIrWuhcV13qtPPhJiWL/U=
"""

OTHER_HOST = """
MIIBbzCCARSgAwIBAgIUDdAEk0Ik+hDoBPuR8FVzog00ZVYwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0wMDAxMDEwMDAwMDBaGA8yMDk5MTIzMTAwMDAw
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJ+0
IMIi5jMOcfWWz0g1JLmpY0L+mTG1o1LgDFtlCUwLw0H+tJZEmm3rfhpGL3DpIkvU
skz9lb2NvR6aGbVUF+yjTDBKMA8GA1UdEwEB/wQFMAMBAf8wGAYDVR0RBBEwD4IN
b3RoZXIuaW52YWxpZDAdBgNVHQ4EFgQUQk3KBcObP/1eGwZ/x8+/dhoUVB0wCgYI
KoZIzj0EAwIDSQAwRgIhAOyrO7//I9T2vxujimG8eUz79njAHGCbOpJxc3HN/OFM
AiEA92Pdox8SxhxTqUR9OQw8gf8WtJF9760odnNxIc9WHfg=
"""


def write_bundle(folder: Path) -> Path:
    """All three certificates as roots: what a client still refuses, it refuses for the host or the date."""
    path = folder / "bundle.pem"
    path.write_text("\n".join(_pem("CERTIFICATE", text) for text in (GOOD, EXPIRED, OTHER_HOST)))
    return path


def server_context(folder: Path, certificate: str, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLContext:
    """A server's side of TLS with this certificate, up to that version."""
    path = folder / "server.pem"
    path.write_text(_pem("PRIVATE KEY", _KEY) + "\n" + _pem("CERTIFICATE", certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    if newest is not ssl.TLSVersion.MAXIMUM_SUPPORTED:
        context.set_ciphers("ALL:@SECLEVEL=0")  # or the library itself would be too proud for the old versions
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest
    return context


def _pem(kind: str, text: str) -> str:
    return f"-----BEGIN {kind}-----\n{text.strip()}\n-----END {kind}-----\n"
