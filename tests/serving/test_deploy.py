"""The files in deploy/ fit the server: settings, paths, extras."""

import configparser
import logging
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import yaml
from packaging.requirements import Requirement

from jangin.cli.main import app
from jangin.serving import app as health
from jangin.serving.jobs.scheduler import STOP_SECONDS
from jangin.serving.run import GRACE_SECONDS, listen
from jangin.serving.security.keys import add_key
from jangin.serving.state.settings import read_settings
from tests.serving.running import run_server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes.yaml"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def extras_of(dockerfile):
    return re.search(r"^ARG EXTRAS=(\S+)", dockerfile, flags=re.M)[1].split(",")


def options_of(words):
    """Options of a command line after `jangin serve`."""
    return {word for word in words if word.startswith("--")}


@pytest.fixture(scope="module")
def known():
    import typer.main

    group = typer.main.get_command(app)
    return {flag for option in group.commands["serve"].params for flag in option.opts}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_example_of_the_settings_is_right():
    settings = read_settings(DEPLOY / "server.yaml")
    assert settings.needs_keys
    assert settings.database_url.startswith("postgresql://")


def test_the_containers_fit_the_settings_and_the_image(compose, known):
    settings = read_settings(DEPLOY / "server.yaml")
    server, database = compose["services"]["server"], compose["services"]["database"]
    mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in server["volumes"]}
    assert mounts["/data"] in compose["volumes"]
    assert settings.folder == Path("/data")
    assert (DEPLOY / mounts["/etc/jangin/server.yaml"]).samefile(DEPLOY / "server.yaml")
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).exists()
    assert server["ports"] == [f"127.0.0.1:{settings.port}:{settings.port}"]
    user, name = database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"]
    assert settings.database == f"postgresql://{user}@database/{name}"
    assert server["command"][0] == "serve"
    assert options_of(server["command"]) <= known
    extras = re.search(r"^ARG EXTRAS=(\S+)", (DEPLOY / "Dockerfile").read_text(), flags=re.M)[1]
    assert {"serve", "postgres", "train"} <= set(extras.split(","))


def test_the_image_copies_what_its_commands_need():
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    copied = [
        word
        for line in re.findall(r"^COPY (.+)$", text, flags=re.M)
        for word in shlex.split(line)[:-1]
        if not line.startswith("--from=")
    ]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "src", project["readme"], *project.get("license-files", ())}
    assert {name.partition("/")[0] for name in needed} <= set(copied)
    extras = extras_of(text)
    assert set(extras) <= set(project["optional-dependencies"])
    program = re.search(r'^ENTRYPOINT \["(\w+)"\]', text, flags=re.M)[1]
    assert program in project["scripts"]
    python = re.search(r"^ARG PYTHON=3\.(\d+)", text, flags=re.M)[1]
    assert int(python) >= int(re.search(r">=\s*3\.(\d+)", project["requires-python"])[1])
    torch = next(word for word in project["optional-dependencies"]["train"] if "torch" in word)
    pinned = re.search(r"^ARG TORCH=(\S+)", text, flags=re.M)[1]
    assert Requirement(torch).specifier.contains(pinned)


def test_the_unit_starts_the_server_with_options_that_it_has(known):
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read(DEPLOY / "jangin.service")
    for key in ("ExecStart", "ExecStartPre"):
        words = shlex.split(unit["Service"][key])
        assert words[1] == "serve"
        assert options_of(words) <= known
    assert Path("/var/lib/jangin").name == unit["Service"]["StateDirectory"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_one_that_systemd_reads_and_it_is_confined():
    unit = (DEPLOY / "jangin.service").read_text().replace("/opt/jangin/bin/jangin", "/bin/true")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jangin.service"
        path.write_text(unit)
        words = ["systemd-analyze", "security", "--offline=true", "--threshold=30", path]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "Unknown key" not in done.stderr + done.stdout
    assert done.returncode == 0, done.stdout[-300:] + done.stderr  # an exposure of 3.0 of 10


def test_the_lock_file_has_every_package_of_the_image_with_digests():
    text = (DEPLOY / "Dockerfile").read_text()
    assert "--require-hashes" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in extras_of(text):
        wanted += project["optional-dependencies"][extra]
    lines = (DEPLOY / "requirements.txt").read_text().replace("\\\n", " ").splitlines()
    locked = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, _, rest = line.partition("==")
            locked[name] = rest.split()[0]
            assert "--hash=sha256:" in rest, line
    for each in map(Requirement, wanted):
        if each.name != "torch":
            name = each.name.lower().replace("_", "-")
            assert each.specifier.contains(locked[name], prereleases=True), each
    assert "torch" not in locked


def test_the_containers_have_limits_and_the_image_a_check(compose):
    for service in compose["services"].values():
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert service["logging"]["options"]["max-size"]
    server = compose["services"]["server"]
    assert server["init"] is True
    assert all("size=" in mount for mount in server["tmpfs"])
    check = re.search(r"HEALTHCHECK.*?:(\d+)(/\w+)", (DEPLOY / "Dockerfile").read_text(), re.S)
    assert check[1] == str(read_settings(None).port)
    assert check[2] in {route.path for route in health.router.routes}


def test_the_deployment_for_kubernetes_fits_the_server(known, tmp_path):
    kinds = {each["kind"]: each for each in yaml.safe_load_all(KUBERNETES.read_text())}
    (tmp_path / "server.yaml").write_text(kinds["ConfigMap"]["data"]["server.yaml"])
    settings = read_settings(tmp_path / "server.yaml")
    deployment = kinds["Deployment"]["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"]["type"] == "Recreate"
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    assert container["args"][0] == "serve"
    assert options_of(container["args"]) <= known
    assert container["ports"][0]["containerPort"] == settings.port
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert str(settings.folder) in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert pod["terminationGracePeriodSeconds"] > STOP_SECONDS + GRACE_SECONDS
    paths = {route.path for route in health.router.routes}
    probes = [value["httpGet"]["path"] for key, value in container.items() if "Probe" in key]
    assert set(probes) == paths
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    claims = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if len(volume) > 1
              and "persistentVolumeClaim" in volume]  # fmt: skip
    assert claims == [{"claimName": kinds["PersistentVolumeClaim"]["metadata"]["name"]}]


@contextmanager
def nginx(folder, port):
    """The address of nginx with the file of deploy/, without TLS and with short times."""
    with listen(read_settings(None, port=0)) as free:
        own = free.getsockname()[1]
    site = (DEPLOY / "nginx.conf").read_text()
    site = re.sub(r"listen 443 ssl;", f"listen 127.0.0.1:{own};", site)
    site = re.sub(r"ssl_certificate\S* \S+;", "", site)
    site = re.sub(r"client_(header|body)_timeout \d+s", r"client_\1_timeout 1s", site)
    site = site.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(
        "daemon off; master_process off; pid nginx.pid; error_log error.log;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; include {folder}/site.conf; }}\n"
    )
    words = [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    with subprocess.Popen(words) as process:
        deadline = time.monotonic() + 100
        while True:
            assert process.poll() is None, (folder / "error.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", own)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{own}"
        finally:
            process.terminate()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx")
def test_nginx_in_front_ends_slow_requests_and_says_who_asks(tmp_path):
    options = {"hosts": ["ai.example.org"], "proxies": ["127.0.0.1"]}
    with run_server(tmp_path / "data", **options) as running:
        port = httpx2.URL(running.url).port
        with running.server.database.write() as session:
            text = add_key(session, name="x", project="p", scopes=["files"], now=1)[1]
        headers = {"host": "ai.example.org", "authorization": f"Bearer {text}"}
        with nginx(tmp_path, port) as url, httpx2.Client(headers=headers, timeout=100) as client:
            assert client.get(f"{url}/v1/files").json()["data"] == []
            stored = client.post(
                f"{url}/v1/files",
                data={"purpose": "user_data"},
                files={"file": ("a", bytes(30**5))},
            )
            assert stored.json()["bytes"] == 30**5
            large = client.post(f"{url}/v1/chat/completions", content=bytes(21_000_000))
            assert large.status_code == 413
            for path in ("metrics", "readyz"):
                assert client.get(f"{url}/{path}").status_code == 404
            assert client.get(f"{url}/healthz").status_code == 200
            address = httpx2.URL(url)
            with socket.create_connection((address.host, address.port), 100) as half:
                half.sendall(b"GET /healthz HTTP/1.1\r\nhost: ai.ex")
                assert b"200" not in half.recv(1000)  # closed, or 408
            forged = {"x-forwarded-for": "203.0.113.9"}
            with addresses() as seen:  # nginx replaces what a client says, and is believed itself
                client.get(f"{url}/v1/files/none", headers=forged)
                client.get(f"{running.url}/files/none", headers=forged)
            assert seen == ["127.0.0.1", "203.0.113.9"]


@contextmanager
def addresses():
    """Those that the log of requests names meanwhile."""
    logger, seen, handler = logging.getLogger("jangin.serving"), [], logging.Handler()
    handler.emit = lambda record: seen.append(record.fields["client"])
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield seen
        deadline = time.monotonic() + 100
        while len(seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_prometheus_reads_the_port_of_the_server():
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    port = read_settings(None).port
    assert job["static_configs"][0]["targets"] == [f"127.0.0.1:{port}"]
    assert job["metrics_path"] == "/metrics"
