"""The peers: each a program with the arguments of `limit.py`, as the best user of that system would write it.

All call the limit's own `tf.function` (decoding, preprocessing and module in one graph, best batch size, frozen or plain);
`tfx_bsl`, which takes nothing but a SavedModel, has it in one. The exception is `run_inference_plain`: what Beam's
documentation shows. So what differs is what each system does around it.
"""
