"""`duetface certs`: who may speak to the service."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output
from cli.connection import existing_state
from cli.options import Json, State
from duetface.address import check_host
from duetface.errors import ConfigError

if TYPE_CHECKING:
    from duetface.authority import Issued

app = typer.Typer(
    no_args_is_help=True,
    help="Certificates: who may speak to the service, and as what.",
    epilog="Examples: `duetface certs issue --role agent --name door-1`, `duetface certs revoke door-1`, "
    "`duetface certs renew`",
)

Role = Annotated[
    list[str],
    typer.Option(
        "--role", help="agent (a device), verifier (asks), operator (enrols), auditor (reads the audit); repeatable."
    ),
]
Name = Annotated[str, typer.Argument(help="The name in the certificate, e.g. door-1.")]


@app.command(epilog="Example: `duetface certs issue --role agent --name door-1`")
def issue(
    role: Role,
    name: Annotated[str, typer.Option("--name", help="Name of the holder, e.g. door-1.")],
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="Days until it expires.")] = 397,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write to.", show_default="clients/NAME in the state folder"),
    ] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Make a key and a certificate for a device or a person, and say what to copy there."""
    from duetface import authority, identity

    roles = [_role(word) for word in role]
    folder = existing_state(state)
    filed = folder / "clients" / name
    target = out if out is not None else filed
    if (filed / "client.crt").exists():
        raise ConfigError(f"{filed} is there already: choose another --name, so that each can be revoked by its own")
    peer = authority.Authority.load(folder / "ca").issue_client(roles, name, target, datetime.now(UTC), days)
    if target != filed:  # the certificate without its key, so that a lost device can be revoked by name
        identity.write_private(filed / "client.crt", (target / "client.crt").read_bytes())
    files = [target / file for file in ("client.crt", "client.key", "ca.crt")]
    if as_json:
        output.result_json({**_peer(peer), "folder": target, "files": files})
        return
    output.result(f"{peer.label} in realm {peer.realm}, until {peer.not_after:%Y-%m-%d}")
    output.result(f"Copy this folder to the device, readable by its user only: {target}")
    for file in files:
        output.result(f"  {file.name}")
    if identity.Role.AGENT in roles:
        output.result("There: duetface agent --identity FOLDER --service HOST:PORT --source 0")


@app.command("list", epilog="Example: `duetface certs list`")
def list_(state: State = None, as_json: Json = False) -> None:
    """List the client certificates kept in the state folder."""
    issued = _issued(existing_state(state))
    if as_json:
        output.result_json([_describe(one) for one in issued])
        return
    rows = [(one.peer.name, "+".join(sorted(one.peer.roles)), one.peer.not_after, _status(one)) for one in issued]
    output.result_table(("name", "roles", "expires", "status"), rows)


@app.command(epilog="Example: `duetface certs show door-1`")
def show(name: Name, state: State = None, as_json: Json = False) -> None:
    """Show one client certificate of the state folder."""
    one = _find(existing_state(state), name)
    if as_json:
        output.result_json(_describe(one))
        return
    for key, value in _describe(one).items():
        output.result(f"{key:12} {', '.join(value) if isinstance(value, list) else value}")


@app.command(epilog="Examples: `duetface certs revoke door-1`, `duetface certs revoke --certificate door-1.crt`")
def revoke(
    name: Annotated[str, typer.Argument(help="The name in the certificate, e.g. door-1.")] = "",
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="A certificate file, for one that is not kept here.")
    ] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Refuse a certificate from now on; a running service of this state folder notices by itself."""
    from duetface import identity, revocation

    folder = existing_state(state)
    if bool(name) == (certificate is not None):
        raise ConfigError("revoke whom? Give a NAME of `duetface certs list`, or --certificate FILE")
    if certificate is not None:
        peer = identity.PeerIdentity.of_file(certificate, "name the certificate that is to be revoked")
    else:
        peer = _find(folder, name).peer
    revocation.revoke(folder / "revoked.json", peer.fingerprint, datetime.now(UTC))
    if as_json:
        output.result_json({"name": peer.name, "fingerprint": peer.fingerprint, "revoked": True})
        return
    output.result(f"{peer.label} is revoked; to issue a new one, choose another --name")


@app.command(
    epilog="Examples: `duetface certs renew`, `duetface certs renew --host faces.hq.example --ca /media/usb/ca`"
)
def renew(
    host: Annotated[
        list[str] | None,
        typer.Option("--host", help="A further name or address under which devices reach the service; repeatable."),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="Days until it expires.")] = 397,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", help="Folder with ca.crt and ca.key.", show_default="ca in the state folder"),
    ] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Renew the service's own certificate: the same name and hosts, a new key, no change for any client."""
    from duetface import authority

    folder = existing_state(state)
    hosts = [check_host(name, "--host") for name in host or ()]
    root = authority.Authority.load(ca if ca is not None else folder / "ca")
    peer = root.renew_server(folder / "server", datetime.now(UTC), days, hosts)
    if as_json:
        output.result_json({**_peer(peer), "folder": folder / "server"})
        return
    output.result(f"{peer.label} in realm {peer.realm}, until {peer.not_after:%Y-%m-%d}")
    output.result("Restart `duetface serve` to use it; clients need nothing")


def _role(word: str) -> Any:
    from duetface.identity import Role as Roles

    known = [role.value for role in Roles if role is not Roles.SERVER]
    if word not in known:
        raise ConfigError(f"--role {word}: expected one of {', '.join(known)}")
    return Roles(word)


def _issued(folder: Path) -> "list[Issued]":
    from duetface.authority import issued_certificates

    return issued_certificates(folder / "clients", folder / "revoked.json")


def _find(folder: Path, name: str) -> "Issued":
    for one in _issued(folder):
        if one.peer.name == name:
            return one
    raise ConfigError(f"no certificate of {name} in {folder / 'clients'}: `duetface certs list` shows what is there")


def _status(one: "Issued") -> str:
    expired = one.peer.not_after < datetime.now(UTC)
    return "revoked" if one.revoked else "expired" if expired else "valid"


def _peer(peer: Any) -> dict[str, Any]:
    return {
        "name": peer.name,
        "realm": peer.realm,
        "roles": sorted(peer.roles),
        "expires": peer.not_after,
        "fingerprint": peer.fingerprint,
    }


def _describe(one: "Issued") -> dict[str, Any]:
    return {**_peer(one.peer), "status": _status(one), "folder": str(one.folder)}
