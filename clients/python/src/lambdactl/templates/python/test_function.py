"""python3 -m unittest"""

import unittest

from function import handle


class Greeting(unittest.TestCase):
    def test_who_is_named_is_greeted(self):
        self.assertEqual(handle({"name": "Ada"}, {}), {"greeting": "Hello, Ada!"})

    def test_nobody_is_the_world(self):
        self.assertEqual(handle({}, {}), {"greeting": "Hello, world!"})
