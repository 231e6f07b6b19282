"""Commands and artifacts."""

from __future__ import annotations

from agent_magics.client import ArtifactNotFound, CommandNotFound, NotText

from ._kit import Checks, Kit

check = Checks()

_NO_TEXT = b"\x89PNG\xff\x00"


@check
async def commands_have_names(kit: Kit) -> None:
    """A listed command runs as a turn and gives the turn's text; an unknown one is refused."""
    async with kit.session() as session:
        commands = await kit.client.list_commands(session.id)
        kit.expect(commands, "there is no command")
        text = await session.run_command(commands[0].name)
        _, answer = await session.get_messages()
        kit.same(text, answer.text, "the text of the command")
        async with kit.refused(CommandNotFound, "an unknown command"):
            await session.run_command("no-such-command")
        kit.same(len(await session.get_messages()), 2, "messages after a refused command")


@check
async def artifacts_have_keys(kit: Kit) -> None:
    """Files in /workspace/artifacts are artifacts by their names, read as text or exact bytes."""
    async with kit.session() as session:
        kit.same(await session.list_artifacts(), [], "artifacts of a new session")
        await session.put_file("/workspace/artifacts/report.md", "grüße\n")
        await session.put_file("/workspace/artifacts/deep/chart.png", _NO_TEXT)
        sizes = {artifact.key: artifact.size for artifact in await session.list_artifacts()}
        kit.same(sizes, {"deep/chart.png": 6, "report.md": 8}, "artifacts and their sizes")
        kit.same(await session.get_artifact("report.md"), "grüße\n", "text")
        kit.same(await session.get_artifact_buffer("deep/chart.png"), _NO_TEXT, "bytes")
        async with kit.refused(NotText, "get_artifact() of what is no text"):
            await session.get_artifact("deep/chart.png")
        for key in ("nothing", "../artifacts/report.md", "/etc/passwd"):
            async with kit.refused(ArtifactNotFound, f"the artifact {key}"):
                await session.get_artifact_buffer(key)
