"""The floor: benches/peers/floor.c, the least that takes mail and has it on the disk before the 250."""

from servers import Server, ready_port


class Floor(Server):
    name = "floor"
    title = "floor"

    def version(self):
        return "floor.c"

    def lacks(self, case):
        if case.relay:
            return "delivers nothing"
        if case.secure:
            return "has no TLS"
        return super().lacks(case)

    def command(self, job):
        return [str(self.tools.floor), "0", str(job.folder / "log")]

    def port(self, job, said):
        return ready_port(said)


SERVER = Floor
