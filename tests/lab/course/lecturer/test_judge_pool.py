"""Judges for the threads of a batch, here or on a cluster."""

from sample_batch import make_order, write_class
from sample_course import SOLUTION

from mini_transformer.course.lecturer import judge_pool as judges


def test_on_a_cluster_an_order_goes_to_a_worker_and_its_report_comes_back(course, tmp_path, orders):
    class Future:
        def __init__(self, report):
            self.result = lambda: report

    class Client:
        def submit(self, function, order, pure):
            assert not pure
            return Future(function(order))

    write_class(tmp_path / "class", {"ann": SOLUTION})
    assert judges.RemoteJudge(Client()).ask(make_order(course)).solved
    assert len(orders) == 1
    judges.close_here()
