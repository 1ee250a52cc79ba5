"""Certificates for tests, made by the openssl command."""

import os
import ssl
import subprocess


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60,
                   stdin=subprocess.DEVNULL)


class Authority:
    """One that signs certificates, in a directory."""

    def __init__(self, directory, name="ca"):
        self.directory = directory
        self.certificate = os.path.join(directory, f"{name}.pem")
        self._key = os.path.join(directory, f"{name}.key")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-subj", f"/CN={name}", "-days", "2", "-keyout", self._key, "-out",
                 self.certificate)

    def sign(self, name, usage="serverAuth", days=2):
        """A certificate for 127.0.0.1 with its key; answers their paths, NAME.pem and NAME.key."""
        request, certificate, key, extensions = (
            os.path.join(self.directory, name + end) for end in (".csr", ".pem", ".key", ".ext"))
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                 f"/CN={name}", "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
                 "-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out",
                 certificate)
        os.chmod(key, 0o600)
        return certificate, key

    def context(self, client=None):
        """For clients that trust this authority; client is the pair of sign() that they show."""
        context = ssl.create_default_context(cafile=self.certificate)
        if client:
            context.load_cert_chain(*client)
        return context
