"""Results by fingerprint, and refs that say which of them are in force.

`results/<dataset>/<stage>/<fingerprint>/` holds all that one stage made from one set of inputs, settings and code: its
files under the paths of the contract (`tables/…`, `embeddings/…`), the provenance of its rows, and `manifest.json`,
the record with the checksums of its files and its own. A folder gets its name when it is whole, so what has a name is
finished, and it is never changed after that. What is fetched and not made (raw files, models) stays where it is: its
record names it.

`refs/<dataset>/<variant>.json` says which fingerprint of each stage a variant has; `refs/<dataset>/history/` holds
what each run left behind. The paths of the contract in the lake itself are links to the variant that ran last.
"""

from rallrec_pipeline.lake.store.links import link_tree, publish_links, withdraw_links
from rallrec_pipeline.lake.store.records import (
    ROWS,
    Given,
    Record,
    all_records,
    finish_result,
    has_lost_record,
    read_record,
    recorded_datasets,
    result_folder,
    unfinished_result,
    whole,
    with_inputs,
)
from rallrec_pipeline.lake.store.refs import (
    IN_FORCE,
    Ref,
    in_force,
    lost_refs,
    past_refs,
    put_in_force,
    read_ref,
    record_of,
    ref_file,
    stored_refs,
    variant_refs,
)
