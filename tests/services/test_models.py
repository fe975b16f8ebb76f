"""The registry's service: files of deleted models go, whoever died on the way, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import ROOT, a_new_job
from tests.fakes import FakeClock
from tests.model_parts import put_model
from training_cluster.domain.errors import Forbidden, ModelInUse, ModelNotAllowed, Pruned
from training_cluster.domain.model import Model
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.services.models import Models
from training_cluster.services.starting_models import require_standing
from training_cluster.store import jobs, models, pruning
from training_cluster.store.database import Database

BOB = Principal("bob", Role.VIEWER, Via.TOKEN)


async def registered(database: Database, state: Path) -> Model:
    new = a_new_job()
    await database.write(lambda c: jobs.insert(c, new))
    return put_model(state, new.id, new.user)


@pytest.fixture
async def registry(tmp_path):
    database = Database(tmp_path / "queue.db")
    yield Models(database, FakeClock(), tmp_path), database, tmp_path
    database.close()


async def test_files_of_a_deleted_model_go_although_the_daemon_died_before(registry):
    service, database, state = registry
    kept, doomed = [await registered(database, state) for _ in range(2)]
    await database.write(lambda c: models.bury(c, doomed, 1.0))
    assert Path(doomed.path).is_dir()
    await service.sweep()
    assert not Path(doomed.path).exists()
    assert Path(kept.path).is_dir()
    assert await database.read(models.buried) == []
    with pytest.raises(Pruned):
        await service.get(doomed.key)
    assert (await service.get(doomed.key, with_deleted=True)).deleted_at == 1.0


async def test_nothing_is_removed_that_lies_elsewhere(registry, tmp_path):
    service, database, state = registry
    model = await registered(database, state)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("years of work")
    move = "UPDATE models SET path = ? WHERE number = ?"
    await database.write(lambda c: c.execute(move, (str(elsewhere), model.number)).rowcount)
    await service.delete(model.key, ROOT)
    assert (elsewhere / "thesis.txt").exists()
    assert len(await database.read(models.buried)) == 1, "it is tried again"


async def test_a_model_stays_while_a_job_starts_from_a_checkpoint_of_its_training(registry):
    service, database, state = registry
    model = await registered(database, state)
    user = a_new_job(checkpoint=f"{model.job_id}@step-4", model_name="owner/base")
    await database.write(lambda c: jobs.insert(c, user))
    with pytest.raises(ModelInUse):
        await service.delete(model.key, ROOT)
    assert Path(model.path).is_dir()


async def test_a_model_stays_while_an_adapter_is_put_on_it_though_one_between_is_gone(registry):
    service, database, state = registry
    whole, between, last = [await registered(database, state) for _ in range(3)]
    put_on = "UPDATE models SET base_model = ?, parent_id = ? WHERE number = ?"
    for adapter, parent in ((between, whole), (last, between)):
        values = (whole.path, parent.id, adapter.number)
        await database.write(lambda c, values=values: c.execute(put_on, values).rowcount)
    await database.write(
        lambda c: c.execute("UPDATE models SET kind = 'full' WHERE id = ?", (whole.id,)).rowcount
    )
    await service.delete(between.key, ROOT)
    with pytest.raises(ModelInUse, match=last.key):
        await service.delete(whole.key, ROOT)
    assert await database.read(pruning.needed) == {whole.job_id}
    await service.delete(last.key, ROOT)
    await service.delete(whole.key, ROOT)
    assert await database.read(pruning.needed) == set()


async def test_a_private_model_is_handed_out_to_its_owner_only(registry):
    service, database, state = registry
    model = await registered(database, state)
    with pytest.raises(Forbidden):
        await service.archive(model.key, BOB)
    await service.set_public(model.key, ROOT, is_public=True)
    packed = await service.archive(model.key, BOB)
    assert sum(len(chunk) for chunk in packed.chunks) == packed.size_bytes


async def test_a_job_whose_checkpoint_was_removed_before_it_is_stored_is_refused(registry):
    _, database, state = registry
    spec = a_new_job(checkpoint="7@step-4", adapter=str(state)).spec
    with pytest.raises(ModelNotAllowed, match="7@step-4 was removed meanwhile"):
        await database.read(lambda c: require_standing(c, spec))
    (state / "adapter_config.json").write_text("{}")
    await database.read(lambda c: require_standing(c, spec))
