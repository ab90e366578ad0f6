"""The networks in torch: teacher, client, server, their fixed transforms and their export. Training only.

One definition serves every split: what differs (channels, upsampling, masks) comes from the frozen spec.
"""
