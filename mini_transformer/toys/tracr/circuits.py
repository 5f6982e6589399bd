"""The edges of each program's circuits, found by trying all sets of edges.

Each program has one minimal circuit per ablation, whose nodes are those of its edges. Under mean
ablation it is what carries things that differ between prompts; zeros also take away what is the
same in all of them: positions, the first token, and the constant one.
"""

from mini_transformer.edges import Ablation, Edge, Node
from mini_transformer.toys.truth import Circuits

CARRYING = {
    "reverse": """input->a0.h0<q> input->a0.h0<k> a0.h0->m0 m0->m1 m1->m2 m2->a3.h0<q>
        input->a3.h0<v> a3.h0->logits""",
    "length": "input->a0.h0<q> input->a0.h0<k> a0.h0->m0 m0->logits",
    "hist": "input->a0.h0<q> input->a0.h0<k> a0.h0->m0 m0->logits",
    "sort": """input->m0 m0->a1.h0<q> m0->a1.h0<k> a1.h0->m1 m1->a2.h0<k>
        input->a2.h0<v> a2.h0->logits""",
    "sort_unique": """input->a0.h0<q> input->a0.h0<k> a0.h0->m0 m0->a1.h0<k>
        input->a1.h0<v> a1.h0->logits""",
    "frac_prevs": "input->m0 m0->a1.h0<v> a1.h0->logits",
    "pair_balance": "input->m0 m0->a1.h0<v> m0->a1.h1<v> a1.h0->m1 a1.h1->m1 m1->logits",
    "shuffle_dyck2": """input->m0 m0->a1.h0<v> m0->a1.h1<v> m0->a1.h2<v> m0->a1.h3<v>
        a1.h0->m2 a1.h1->m2 a1.h2->m2 a1.h3->m2 m2->m3 m3->m4 m4->a5.h0<v> m4->m5 m5->a6.h0<v>
        a6.h0->m6 a5.h0->m7 m6->m7 m7->logits""",
}
CONSTANT = {  # needed besides, where the rest is zeros
    "reverse": "input->a0.h0<v> input->m0 input->m1 input->a3.h0<k>",
    "length": "input->a0.h0<v> input->m0",
    "hist": "input->a0.h0<v> input->m0",
    "sort": "input->a1.h0<q> input->a1.h0<k> input->a1.h0<v> input->m1 input->a2.h0<q>",
    "sort_unique": "input->a0.h0<v> input->m0 input->a1.h0<q>",
    "frac_prevs": "input->a1.h0<q> input->a1.h0<k>",
    "pair_balance": "input->a1.h0<q> input->a1.h0<k> input->a1.h1<q> input->a1.h1<k>",
    "shuffle_dyck2": """input->a1.h0<q> input->a1.h0<k> input->a1.h1<q> input->a1.h1<k>
        input->a1.h2<q> input->a1.h2<k> input->a1.h3<q> input->a1.h3<k> m0->m1 input->m3 input->m4
        m1->a5.h0<q> input->a5.h0<k> input->m6 input->m7""",
}
MISLEADING = {  # needed besides, where the rest is another prompt's
    "shuffle_dyck2": "input->a0.h0<q> input->a0.h0<k> a0.h0->m0 m0->m1 m1->a5.h0<q>",
}
NOTES = {
    "shuffle_dyck2": "the length says where the string ends; padding has the balances of the last "
    "bracket, so that without it the last position of all will do, but another prompt's length "
    "may point into the string",
}


def list_circuits(name: str, places: list[list[int]]) -> dict[Ablation, Circuits]:
    """List the circuits of a program; `places[layer][head]` is where a head has been moved to."""
    parts: dict[Ablation, list[dict[str, str]]] = {
        "zero": [CARRYING, CONSTANT],
        "mean": [CARRYING],
        "resample": [CARRYING, MISLEADING],
    }
    found: dict[Ablation, Circuits] = {}
    for ablation, tables in parts.items():
        names = " ".join(table.get(name, "") for table in tables).split()
        edges = [move_edge(Edge.parse(edge), places) for edge in names]
        nodes = {str(node) for edge in edges for node in (edge.writer, edge.reader)}
        found[ablation] = Circuits(
            (frozenset(map(str, edges)),),
            (frozenset(nodes),),
            "enumeration",
            complete=True,
            corrupt="edit" if ablation == "resample" else None,
            note=NOTES.get(name, ""),
        )
    return found


def move_edge(edge: Edge, places: list[list[int]]) -> Edge:
    """Write an edge with its heads where they have been moved to."""

    def move(node: Node) -> Node:
        if node.kind != "head":
            return node
        layer, head = node.place
        return node._replace(head=places[layer][head])

    return edge._replace(writer=move(edge.writer), reader=move(edge.reader))
