"""Authorities, certificates and lists of revocations for the tests, made with openssl(1)."""
import os
import subprocess


def openssl(*arguments, cwd=None):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=cwd, timeout=60)


class Authority:
    """An authority in a directory of its own: `ca.pem`, and what it signs and revokes."""

    def __init__(self, directory, name="Test Authority"):
        self.directory = str(directory)
        os.makedirs(os.path.join(self.directory, "issued"), exist_ok=True)
        self.pem, self.key = self.path("ca.pem"), self.path("ca.key")
        with open(self.path("index.txt"), "w"), open(self.path("index.txt.attr"), "w") as attributes:
            attributes.write("unique_subject = no\n")
        for file, number in (("serial", "1000"), ("crlnumber", "01")):
            with open(self.path(file), "w") as out:
                out.write(number + "\n")
        with open(self.path("ca.cnf"), "w") as out:
            out.write("[ca]\ndefault_ca=own\n[own]\ndir=.\ndatabase=index.txt\nserial=serial\ncrlnumber=crlnumber\nnew_certs_dir=issued\n"
                      "certificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\ndefault_days=30\ndefault_crl_days=30\npolicy=any\n"
                      "copy_extensions=copy\n[any]\ncommonName=supplied\norganizationName=optional\n")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", f"/CN={name}",
                "-keyout", self.key, "-out", self.pem)

    def path(self, name):
        return os.path.join(self.directory, name)

    def issue(self, stem, name=None, alternatives="DNS:localhost,IP:127.0.0.1", usage=None, days=None, ended=False):
        """→ (chain, key). `ended`: it expired yesterday."""
        chain, key, request = self.path(stem + ".pem"), self.path(stem + ".key"), self.path(stem + ".csr")
        more = ["-addext", f"subjectAltName={alternatives}"] if alternatives else []
        more += ["-addext", f"extendedKeyUsage={usage}"] if usage else []
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name or stem}", *more,
                "-keyout", key, "-out", request)
        when = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"] if ended else ["-days", days or 30]
        openssl("ca", "-config", "ca.cnf", "-batch", "-notext", "-in", request, "-out", chain, *when, cwd=self.directory)
        os.chmod(key, 0o600)
        return chain, key

    def revoke(self, chain):
        openssl("ca", "-config", "ca.cnf", "-revoke", chain, cwd=self.directory)

    def crl(self, stem="crl", ended=False):
        """→ the path of a list of what has been revoked so far."""
        out = self.path(stem + ".pem")
        when = ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z"] if ended else []
        openssl("ca", "-config", "ca.cnf", "-gencrl", *when, "-out", out, cwd=self.directory)
        return out
